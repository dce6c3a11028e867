//! What lets a request read a subscription, for as long as it may.

use access::Digest;
use event::SubscriptionName;
use subscriptions::pull::is_token_of;
use subscriptions::{DoorKind, State, Subscription};

use crate::ConsoleState;
use crate::refusal::Refusal;

/// What lets a request read one subscription.
#[derive(Clone)]
pub(crate) struct Permit {
    pub(crate) state: ConsoleState,
    pub(crate) name: SubscriptionName,
    /// The subscription's own token, if that was given.
    pub(crate) token: Option<Digest>,
}

impl Permit {
    /// The subscription, if the token is still valid and it is one to read from.
    pub(crate) async fn subscription(&self) -> Result<Subscription, Refusal> {
        let Self { state, name, token } = self;
        if let Some(token) = token
            && !is_token_of(&mut *state.store.read().await?, name, *token).await?
        {
            return Err(Refusal::Unauthorized);
        }
        let found = subscriptions::get(&state.store, name).await?;
        let found = found.ok_or_else(|| Refusal::NoSubscription(name.to_string()))?;
        match found.door()?.kind() {
            DoorKind::Pull => Ok(found),
            other => Err(Refusal::Conflict(format!(
                "{name} is a {} subscription: malote delivers its events, and nobody reads them here.",
                other.as_str()
            ))),
        }
    }

    /// The same, if its events may be read now.
    pub(crate) async fn check(&self) -> Result<Subscription, Refusal> {
        let found = self.subscription().await?;
        if found.state != State::Paused {
            return Ok(found);
        }
        let name = &self.name;
        let reason = if found.reason.is_empty() { String::new() } else { format!(" ({})", found.reason) };
        Err(Refusal::Conflict(format!(
            "{name} is paused{reason}. Its events wait; `malote subscriptions resume {name}` gives them again."
        )))
    }
}
