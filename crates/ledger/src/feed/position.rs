//! Positions, and the cursors that readers keep of them.
//!
//! The database gives an event its position: on PostgreSQL by the default of the column `written_in` (`migrations/0010_feed.*`,
//! shifted by [`cluster`](super::cluster) after a restore), on SQLite by the number of its row, which [`log`](super::log) reads.

use std::fmt;
use std::str::FromStr;

use event::EventId;

/// Where an event is in the log. PostgreSQL: the transaction that wrote it, then its id. SQLite: its row number, which no
/// other event has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) number: i64,
    pub(super) id: EventId,
}

impl Position {
    /// Before every event.
    pub(super) fn start() -> Self {
        Self { number: 0, id: EventId::from_bytes([0; 16]) }
    }

    /// After every event with this number.
    pub(super) fn last(number: i64) -> Self {
        Self { number, id: EventId::from_bytes([0xff; 16]) }
    }

    /// Whether it is the position of an event, not one between events.
    pub(super) fn is_of_event(&self) -> bool {
        ![Self::start().id, Self::last(0).id].contains(&self.id)
    }
}

/// How far a reader has read. Its text is opaque: nothing but this crate reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The position of the last event read.
    pub(super) position: Position,
    /// What was deleted up to here is known to the reader.
    pub(super) known_deleted: Option<Position>,
}

impl Cursor {
    pub(super) fn at(self, position: Position) -> Self {
        Self { position, known_deleted: self.known_deleted.filter(|known| *known > position) }
    }

    /// Whether a reader with this cursor has read more than one with the other.
    pub fn is_after(&self, other: &Self) -> bool {
        self.position > other.position
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Position { number, id } = self.position;
        write!(f, "{number:x}.{}", id.to_hex())?;
        match self.known_deleted {
            Some(Position { number, id }) => write!(f, "~{number:x}.{}", id.to_hex()),
            None => Ok(()),
        }
    }
}

/// Where a reader begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// With the oldest event on record: `beginning`.
    Beginning,
    /// With what is recorded from now on: `now`.
    Now,
    /// After the event of a cursor.
    Cursor(Cursor),
}

/// The text is not where a reader can begin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected beginning, now, or the position of an event of the feed, got {0:?}")]
pub struct BadCursor(pub String);

impl FromStr for After {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Self, BadCursor> {
        match text {
            "beginning" => return Ok(Self::Beginning),
            "now" => return Ok(Self::Now),
            _ => {}
        }
        let (own, known_deleted) = match text.split_once('~') {
            Some((own, known)) => (position(own), position(known).map(Some)),
            None => (position(text), Some(None)),
        };
        match (own, known_deleted) {
            (Some(position), Some(known_deleted)) => Ok(Self::Cursor(Cursor { position, known_deleted })),
            _ => Err(BadCursor(text.chars().take(100).collect())),
        }
    }
}

impl FromStr for Cursor {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Self, BadCursor> {
        match text.parse()? {
            After::Cursor(cursor) => Ok(cursor),
            After::Beginning | After::Now => Err(BadCursor(text.to_owned())),
        }
    }
}

fn position(text: &str) -> Option<Position> {
    let (number, id) = text.split_once('.')?;
    let number = i64::from_str_radix(number, 16).ok().filter(|number| *number >= 0)?;
    (id.len() == 32).then(|| id.parse().ok()).flatten().map(|id| Position { number, id })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_its_text_and_other_text_is_refused() {
        let position = Position { number: 8_231, id: EventId::generate() };
        for known_deleted in [None, Some(Position::last(9_000))] {
            let cursor = Cursor { position, known_deleted };
            assert_eq!(cursor.to_string().parse(), Ok(After::Cursor(cursor)));
        }
        assert_eq!(("beginning".parse(), "now".parse()), (Ok(After::Beginning), Ok(After::Now)));
        let id = position.id;
        for text in ["", "1", "1.", "x.y", "-1.00", &format!("1.{id}"), &format!("1.{}~", id.to_hex())] {
            assert!(text.parse::<After>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn known_deletions_are_forgotten_once_they_are_passed() {
        let cursor = Cursor { position: Position::start(), known_deleted: Some(Position::last(7)) };
        assert_eq!(cursor.at(Position::last(6)).known_deleted, Some(Position::last(7)));
        assert_eq!(cursor.at(Position::last(7)).known_deleted, None);
    }
}
