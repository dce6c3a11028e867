//! The states of an event, for each consumer and as a whole.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use view::{Tone, Tones};

/// The outcome of an event at one consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ConsumerState {
    /// It has not had its effect yet.
    Pending,
    /// It has had its effect.
    Handled,
    /// The consumer gave up.
    Dead,
    /// The consumer gave up, and an operator closed the dead letter.
    Discarded,
}

/// The outcome of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum EventState {
    /// A consumer has not handled it yet, and none gave up.
    Pending,
    /// Every consumer that takes it has handled it.
    Handled,
    /// No consumer of malote takes it: what queues of other services do with it is unknown. Of a domain event there may be none.
    Routed,
    /// A consumer gave up.
    Dead,
    /// No queue is bound to its topic.
    Unrouted,
    /// An operator closed it.
    Discarded,
    /// A duplicate of an earlier event; it is not delivered.
    Duplicate,
}

impl EventState {
    /// All states.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Handled,
        Self::Routed,
        Self::Dead,
        Self::Unrouted,
        Self::Discarded,
        Self::Duplicate,
    ];

    /// What a state means to those who read it; the same for the states of an event at its consumers.
    pub const TONES: Tones = &[
        (Self::Handled.name(), Tone::Good),
        (Self::Routed.name(), Tone::Good),
        (Self::Pending.name(), Tone::Waiting),
        (Self::Unrouted.name(), Tone::Waiting),
        (Self::Dead.name(), Tone::Bad),
    ];

    /// The state with this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Its name, as in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Handled => "handled",
            Self::Routed => "routed",
            Self::Dead => "dead",
            Self::Unrouted => "unrouted",
            Self::Discarded => "discarded",
            Self::Duplicate => "duplicate",
        }
    }

    /// The state of an event with these marks and these consumers.
    pub(crate) fn combined(mark: EventMark, consumers: &BTreeMap<String, ConsumerState>) -> Self {
        let any = |state| consumers.values().any(|other| *other == state);
        match mark {
            EventMark::Duplicate => Self::Duplicate,
            EventMark::Unrouted => Self::Unrouted,
            _ if any(ConsumerState::Dead) => Self::Dead,
            _ if any(ConsumerState::Pending) => Self::Pending,
            EventMark::Discarded => Self::Discarded,
            EventMark::None if any(ConsumerState::Discarded) => Self::Discarded,
            EventMark::None if consumers.is_empty() => Self::Routed,
            EventMark::None => Self::Handled,
        }
    }
}

/// The facts that decide the state of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventMark {
    None,
    Duplicate,
    Unrouted,
    /// It was unrouted, and is discarded.
    Discarded,
}

/// The state at each consumer that takes the event (or got it again), has handled it or gave it up. What has had its
/// effect is handled, whatever was given up before.
pub(crate) fn by_consumer<'a>(
    takes: impl IntoIterator<Item = &'a str>,
    dead: impl IntoIterator<Item = &'a str>,
    discarded: impl IntoIterator<Item = &'a str>,
    handled: impl IntoIterator<Item = &'a str>,
) -> BTreeMap<String, ConsumerState> {
    let each = |names: &mut dyn Iterator<Item = &'a str>, state| -> Vec<_> {
        names.map(|name| (name.to_owned(), state)).collect()
    };
    // A later entry replaces an earlier one.
    let mut states = each(&mut takes.into_iter(), ConsumerState::Pending);
    states.extend(each(&mut dead.into_iter(), ConsumerState::Dead));
    states.extend(each(&mut discarded.into_iter(), ConsumerState::Discarded));
    states.extend(each(&mut handled.into_iter(), ConsumerState::Handled));
    states.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_has_one_name() {
        assert_eq!(
            serde_json::to_value(EventState::ALL).unwrap(),
            serde_json::json!(EventState::ALL.map(EventState::name))
        );
        for state in EventState::ALL {
            assert_eq!(EventState::named(state.name()), Some(state));
        }
    }

    #[test]
    fn the_worst_of_the_consumers_is_the_state_of_the_event() {
        let check = |takes: &[&'static str], dead: &[&'static str], handled: &[&'static str], expect| {
            let names = |names: &[&'static str]| names.to_vec();
            let states = by_consumer(names(takes), names(dead), [], names(handled));
            assert_eq!(EventState::combined(EventMark::None, &states), expect, "{states:?}");
            assert_eq!(EventState::combined(EventMark::Unrouted, &states), EventState::Unrouted);
            assert_eq!(EventState::combined(EventMark::Duplicate, &states), EventState::Duplicate);
            let discarded = match expect {
                EventState::Handled | EventState::Routed => EventState::Discarded,
                other => other,
            };
            assert_eq!(EventState::combined(EventMark::Discarded, &states), discarded);
        };
        let discarded = |handled: &[&'static str]| {
            EventState::combined(EventMark::None, &by_consumer(["a", "b"], [], ["b"], handled.to_vec()))
        };
        assert_eq!(discarded(&[]), EventState::Pending);
        assert_eq!(discarded(&["a"]), EventState::Discarded);
        assert_eq!(discarded(&["a", "b"]), EventState::Handled);
        check(&[], &[], &[], EventState::Routed);
        check(&[], &[], &["a"], EventState::Handled);
        check(&["a", "b"], &[], &["a"], EventState::Pending);
        check(&["a", "b"], &[], &["a", "b"], EventState::Handled);
        check(&["a", "b"], &["b"], &[], EventState::Dead);
        check(&["a", "b"], &["b"], &["a", "b"], EventState::Handled);
        check(&[], &["gone"], &[], EventState::Dead);
    }
}
