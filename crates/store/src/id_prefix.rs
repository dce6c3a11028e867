//! The beginning of an id, in place of the whole: what a filter by id takes.

use std::str::FromStr;

use event::EventId;
use serde::de::Error;
use serde::{Deserialize, Deserializer};

use crate::Conditions;

/// An id, or the beginning of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdPrefix {
    least: EventId,
    greatest: EventId,
}

/// The digits of an id.
const DIGITS: usize = 32;

/// The fewest digits that say which ids: those of UUIDv7 begin with the time, and eight of them are a minute.
const LEAST_DIGITS: usize = 4;

/// The text does not begin an id.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("expected an id, or at least {LEAST_DIGITS} hexadecimal digits that it begins with, got {0:?}")]
pub struct NotAnIdPrefix(String);

impl FromStr for IdPrefix {
    type Err = NotAnIdPrefix;

    fn from_str(text: &str) -> Result<Self, NotAnIdPrefix> {
        if let Ok(id) = text.parse() {
            return Ok(Self { least: id, greatest: id });
        }
        let digits: String = text.chars().filter(|letter| *letter != '-').collect();
        let is_prefix = (LEAST_DIGITS..=DIGITS).contains(&digits.len())
            && digits.chars().all(|digit| digit.is_ascii_hexdigit());
        let filled = |digit: &str| (digits.clone() + &digit.repeat(DIGITS - digits.len())).parse();
        match is_prefix.then(|| (filled("0"), filled("f"))) {
            Some((Ok(least), Ok(greatest))) => Ok(Self { least, greatest }),
            _ => Err(NotAnIdPrefix(text.to_owned())),
        }
    }
}

impl<'de> Deserialize<'de> for IdPrefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl From<EventId> for IdPrefix {
    fn from(id: EventId) -> Self {
        Self { least: id, greatest: id }
    }
}

impl IdPrefix {
    /// Whether it is a whole id.
    pub fn is_whole(&self) -> bool {
        self.least == self.greatest
    }
}

impl Conditions {
    /// A condition on a column of ids, if there is one.
    pub fn with_id(&mut self, column: &str, prefix: Option<IdPrefix>) {
        match prefix {
            Some(whole) if whole.is_whole() => self.with(&format!("{column} ="), Some(whole.least)),
            Some(IdPrefix { least, greatest }) => {
                self.with(&format!("{column} >="), Some(least));
                self.with(&format!("{column} <="), Some(greatest));
            }
            None => {}
        }
    }

    /// The same of a column with ids as text.
    pub fn with_id_text(&mut self, column: &str, prefix: Option<IdPrefix>) {
        self.with(&format!("{column} >="), prefix.as_ref().map(|prefix| &prefix.least));
        self.with(&format!("{column} <="), prefix.as_ref().map(|prefix| &prefix.greatest));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_a_range_of_ids() {
        let check = |text: &str, least: &str, greatest: &str| {
            let prefix: IdPrefix = text.parse().unwrap();
            assert_eq!(
                (prefix.least.to_string().as_str(), prefix.greatest.to_string().as_str()),
                (least, greatest)
            );
        };
        let (least, greatest) =
            ("0199d3c0-1f2e-7000-0000-000000000000", "0199d3c0-1f2e-7fff-ffff-ffffffffffff");
        check("0199d3c0-1f2e-7", least, greatest);
        check("0199D3C01F2E7", least, greatest);
        let whole = EventId::generate();
        assert_eq!(whole.to_string().parse(), Ok(IdPrefix::from(whole)));
        for text in ["", "-", "019", "0199x", "order/1", "0199d3c0-1f2e-7abc-8def-0123456789abc"] {
            assert_eq!(text.parse::<IdPrefix>(), Err(NotAnIdPrefix(text.to_owned())));
        }
    }

    #[test]
    fn a_whole_id_is_one_value_and_a_prefix_two() {
        let id = EventId::generate();
        let clause = |prefix: IdPrefix| {
            let mut conditions = Conditions::default();
            conditions.with_id("e.id", Some(prefix));
            conditions.clause()
        };
        assert_eq!(clause(id.into()), "WHERE e.id = $1");
        assert_eq!(clause("0199d3c0".parse().unwrap()), "WHERE e.id >= $1 AND e.id <= $2");
    }
}
