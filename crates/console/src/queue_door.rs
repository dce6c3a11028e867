//! What the API does at the broker for subscriptions that have a queue.

use event::Chain;
use subscriptions::queue::Credentials;
use subscriptions::{Declaration, Door, ShownOnce, Subscription};
use tracing::warn;

use crate::ConsoleState;
use crate::refusal::Refusal;

/// Refuses what is impossible at this broker.
pub(crate) fn check(state: &ConsoleState, declaration: &Declaration) -> Result<(), Refusal> {
    Ok(state.queues.check(declaration)?)
}

/// Makes the broker have what the store asks for under the name of a subscription, if it has a queue. What fails is no error of the
/// request: it is tried again every few seconds, and the subscription shows why it is not done yet.
pub(crate) async fn follow(state: &ConsoleState, subscription: &Subscription) {
    let name = subscription.name();
    if is_queue(subscription)
        && let Err(error) = state.queues.settle(name).await
    {
        warn!(subscription = name.as_str(), "the queue is not as asked for yet: {}", Chain(&error));
    }
}

/// Gives the user of a queue a new password; nothing for a queue without a user of its own.
pub(crate) async fn credentials(
    state: &ConsoleState,
    subscription: &Subscription,
) -> Result<ShownOnce, Refusal> {
    match state.queues.new_password(subscription.name()).await {
        Ok(Credentials { user, password, queue }) => Ok(ShownOnce {
            user: Some(user),
            password: Some(password),
            queue: Some(queue.to_string()),
            ..ShownOnce::default()
        }),
        Err(error) => Err(error.into()),
    }
}

/// Refuses to remove a queue that holds messages, unless they may be lost.
pub(crate) async fn may_remove(
    state: &ConsoleState,
    subscription: &Subscription,
    discard: bool,
) -> Result<(), Refusal> {
    if discard || !is_queue(subscription) || !state.queues.is_amqp {
        return Ok(());
    }
    let name = subscription.name();
    match state.queues.contents(name).await? {
        Some(contents) if !contents.is_empty() => Err(Refusal::Conflict(format!(
            "The queue of {name} holds {contents}, which would be deleted; `discard=true` removes it with them."
        ))),
        _ => Ok(()),
    }
}

/// Refuses what moves or pauses a cursor, which a queue does not have.
pub(crate) fn has_cursor(subscription: &Subscription) -> Result<(), Refusal> {
    match is_queue(subscription) {
        true => Err(Refusal::Conflict(format!(
            "{} has a queue, where its events wait while nobody reads it: stop or start its consumer.",
            subscription.name()
        ))),
        false => Ok(()),
    }
}

/// Whether a subscription has a queue.
fn is_queue(subscription: &Subscription) -> bool {
    matches!(subscription.door(), Ok(Door::Queue(_)))
}
