//! What the commands about subscriptions share.

use anyhow::{Result, bail};
use event::SubscriptionName;
use subscriptions::{SUBSCRIPTIONS, ShownOnce, SubscriptionRow};

use super::api::Api;
use crate::report;

/// The path of a subscription in the API.
pub fn path(name: &str) -> Result<String> {
    match SubscriptionName::new(name) {
        Ok(name) => Ok(format!("{}/{name}", SUBSCRIPTIONS.name)),
        Err(error) => bail!("{name:?} is not the name of a subscription: {error}"),
    }
}

/// Prints what cannot be asked for again.
pub fn print_once(name: &str, once: &ShownOnce) {
    let ShownOnce { secret, token, user, password, queue } = once;
    if let Some(secret) = secret {
        report::line(format!(
            "The secret that its requests are signed with (Standard Webhooks). It is not shown again:\n\n    {secret}\n"
        ));
    }
    if let (Some(user), Some(password), Some(queue)) = (user, password, queue) {
        report::line(format!(
            "The user of RabbitMQ that reads queue {queue}, and can do nothing else. Its password is not shown again:\n\n    \
             {user}\n    {password}\n"
        ));
    }
    if let Some(token) = token {
        report::line(format!(
            "Its token, which reads {name} and opens nothing else. It is not shown again:\n\n    {token}\n"
        ));
    }
}

/// Whether a subscription would be removed; the error says what its queue holds.
pub async fn may_remove(api: &Api, name: &str) -> Result<()> {
    let dry = [("dry_run".to_owned(), "true".to_owned())];
    api.delete::<SubscriptionRow>(&path(name)?, &dry).await.map(drop)
}
