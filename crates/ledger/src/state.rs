//! The states of an event, for each consumer and as a whole.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What became of an event at one consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ConsumerState {
    /// It has not had its effect yet.
    Pending,
    /// It has had its effect.
    Handled,
    /// The consumer gave up.
    Dead,
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum EventState {
    /// A consumer still owes it its effect, and none gave up.
    Pending,
    /// Every consumer that takes it has handled it.
    Handled,
    /// A consumer gave up.
    Dead,
    /// No queue is bound to its topic.
    Unrouted,
}

impl EventState {
    /// The state of an event with this mark and these consumers.
    pub(crate) fn of(unrouted: bool, consumers: &BTreeMap<String, ConsumerState>) -> Self {
        let any = |state| consumers.values().any(|other| *other == state);
        match () {
            () if unrouted => Self::Unrouted,
            () if any(ConsumerState::Dead) => Self::Dead,
            () if any(ConsumerState::Pending) => Self::Pending,
            () => Self::Handled,
        }
    }
}

/// The state at each consumer that takes the event, has handled it or gave it up. What has had its effect is handled,
/// whatever was given up before.
pub(crate) fn by_consumer<'a>(
    takes: impl IntoIterator<Item = &'a str>,
    dead: impl IntoIterator<Item = &'a str>,
    handled: impl IntoIterator<Item = &'a str>,
) -> BTreeMap<String, ConsumerState> {
    let each = |names: &mut dyn Iterator<Item = &'a str>, state| -> Vec<_> {
        names.map(|name| (name.to_owned(), state)).collect()
    };
    // A later entry replaces an earlier one.
    let mut states = each(&mut takes.into_iter(), ConsumerState::Pending);
    states.extend(each(&mut dead.into_iter(), ConsumerState::Dead));
    states.extend(each(&mut handled.into_iter(), ConsumerState::Handled));
    states.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_of_the_consumers_is_the_state_of_the_event() {
        let check = |takes: &[&'static str], dead: &[&'static str], handled: &[&'static str], expect| {
            let states = by_consumer(takes.iter().copied(), dead.iter().copied(), handled.iter().copied());
            assert_eq!(EventState::of(false, &states), expect, "{states:?}");
            assert_eq!(EventState::of(true, &states), EventState::Unrouted);
        };
        check(&[], &[], &[], EventState::Handled);
        check(&["a", "b"], &[], &["a"], EventState::Pending);
        check(&["a", "b"], &[], &["a", "b"], EventState::Handled);
        check(&["a", "b"], &["b"], &[], EventState::Dead);
        check(&["a", "b"], &["b"], &["a", "b"], EventState::Handled);
        check(&[], &["gone"], &[], EventState::Dead);
    }
}
