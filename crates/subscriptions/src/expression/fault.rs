//! Why an evaluation ends without a value, and the bound on its length.

use std::borrow::Cow;

/// How many steps one evaluation takes at most. A step is the visit of a node or of an item, or sixteen bytes that are
/// read or written: some tens of nanoseconds, and some tens of bytes at most.
pub(super) const STEPS: u64 = 1_000_000;

/// How many bytes of text are one step.
const BYTES_PER_STEP: usize = 16;

/// What an evaluation may still do.
#[derive(Debug)]
pub(super) struct Steps(u64);

impl Steps {
    pub(super) fn new() -> Self {
        Self(STEPS)
    }

    pub(super) fn spend(&mut self, steps: usize) -> Result<(), Fault> {
        match self.0.checked_sub(steps as u64) {
            Some(left) => {
                self.0 = left;
                Ok(())
            }
            None => {
                // What absorbs a fault must not go on with what is left.
                self.0 = 0;
                Err(Kind::Exhausted.into())
            }
        }
    }

    /// Spends what a text of this length takes, before it is read or written.
    pub(super) fn spend_bytes(&mut self, bytes: usize) -> Result<(), Fault> {
        self.spend(bytes / BYTES_PER_STEP)
    }
}

/// An error of an evaluation.
#[derive(Debug)]
pub(super) struct Fault {
    /// Where in the text, in bytes, once that is known.
    pub(super) at: Option<usize>,
    pub(super) kind: Kind,
}

/// What went wrong. No text quotes the event.
#[derive(Debug)]
pub(super) enum Kind {
    /// The event has no such field or item.
    Missing(Cow<'static, str>),
    /// A type that does not fit, a division by zero and the like.
    Failed(Cow<'static, str>),
    /// The evaluation takes more than [`STEPS`].
    Exhausted,
}

impl From<Kind> for Fault {
    fn from(kind: Kind) -> Self {
        Self { at: None, kind }
    }
}

impl Fault {
    pub(super) fn failed(message: impl Into<Cow<'static, str>>) -> Self {
        Kind::Failed(message.into()).into()
    }

    /// The fault at this place, if it has none yet: the innermost node is the place.
    pub(super) fn at(self, at: usize) -> Self {
        Self { at: self.at.or(Some(at)), ..self }
    }

    /// Whether nothing may absorb it.
    pub(super) fn is_final(&self) -> bool {
        matches!(self.kind, Kind::Exhausted)
    }
}
