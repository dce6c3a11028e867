//! The fixed queues: those that the ledger reads, whichever consumers are configured.

use std::fmt;

use crate::topology::DELIVERY_LIMIT;

/// A queue that exists in every installation. The topology, the ledger's consumers, the list of queues and the
/// reconciliation are projections of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FixedQueue {
    /// Every accepted event.
    Ledger,
    /// Events whose topic no queue is bound to.
    Unrouted,
    /// Authenticated bodies that could not be used.
    Rejected,
    /// Dead letters.
    Dead,
    /// The tallies of the ingresses.
    Tallies,
    /// What the ledger itself gave up.
    Parked,
}

impl FixedQueue {
    /// All, in the order in which they are declared and listed.
    pub const ALL: [Self; 6] =
        [Self::Ledger, Self::Unrouted, Self::Rejected, Self::Dead, Self::Tallies, Self::Parked];

    /// The name without prefix. The fanout exchange in front of the queue has the same name. The queue `ledger` has no
    /// such exchange: it is bound to those of the providers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ledger => "ledger",
            Self::Unrouted => "unrouted",
            Self::Rejected => "rejected",
            Self::Dead => "dead",
            Self::Tallies => "tallies",
            Self::Parked => "parked",
        }
    }

    /// Its contents, in a few words.
    pub const fn purpose(self) -> &'static str {
        match self {
            Self::Ledger => "every accepted event, for the record",
            Self::Unrouted => "events whose topic no queue is bound to",
            Self::Rejected => "authenticated bodies that could not be used",
            Self::Dead => "what consumers gave up",
            Self::Tallies => "what the ingresses say they have answered",
            Self::Parked => "what the ledger itself gave up; it has no consumer",
        }
    }

    /// How often a message may come back unsettled before the broker dead-letters it: the limit of every queue.
    pub const fn delivery_limit(self) -> u32 {
        DELIVERY_LIMIT
    }

    /// Where a message goes that passes the delivery limit or that the record gives up. From the last one, it goes nowhere.
    pub const fn dead_letters_to(self) -> Option<Self> {
        match self {
            Self::Ledger | Self::Unrouted | Self::Rejected | Self::Dead | Self::Tallies => Some(Self::Parked),
            Self::Parked => None,
        }
    }

    /// Whether a consumer of the ledger reads it; an operator looks into the other.
    pub const fn is_read(self) -> bool {
        !matches!(self, Self::Parked)
    }
}

impl fmt::Display for FixedQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
