//! Where the events of a body are, if one body holds several: in one place, or in one of several.

use event::Topic;
use serde::{Deserialize, Serialize};

use super::SubjectFrom;
use crate::pointer::EventsFrom;

/// The places, of which the first that a body has counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct EventPlaces(Vec<EventPlace>);

/// A place, and what its events have in place of what the provider says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventPlace {
    /// The list.
    pub pointer: EventsFrom,
    /// The topic of its events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<Topic>,
    /// Where their subject is; not in a header, which is about the whole body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<SubjectFrom>,
}

/// As it is written: one pointer, or tables.
#[derive(Clone, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a JSON pointer such as /pix, or tables such as { pointer = \"/pix\", topic = \"pix\" }"
)]
enum Written {
    One(EventsFrom),
    Several(Vec<EventPlace>),
}

impl From<Written> for EventPlaces {
    fn from(written: Written) -> Self {
        Self(match written {
            Written::One(pointer) => vec![EventPlace { pointer, topic: None, subject: None }],
            Written::Several(places) => places,
        })
    }
}

impl From<EventPlaces> for Written {
    fn from(EventPlaces(places): EventPlaces) -> Self {
        match places.as_slice() {
            [EventPlace { pointer, topic: None, subject: None }] => Self::One(pointer.clone()),
            _ => Self::Several(places),
        }
    }
}

impl EventPlaces {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &EventPlace> {
        self.0.iter()
    }

    /// The pointers as they are written, for people.
    pub(crate) fn place(&self) -> String {
        self.iter().map(|place| place.pointer.as_str()).collect::<Vec<_>>().join(" or ")
    }

    /// Every mistake, as (path, message).
    pub(super) fn mistakes(&self) -> Vec<(String, &'static str)> {
        let mut mistakes = Vec::new();
        if self.0.is_empty() {
            mistakes.push(("events".to_owned(), "expected at least one place, such as \"/pix\""));
        }
        for (index, place) in self.iter().enumerate() {
            let subject = place.subject.iter();
            mistakes.extend(
                subject
                    .clone()
                    .flat_map(SubjectFrom::mistakes)
                    .map(|(path, message)| (format!("events[{index}].{path}"), message)),
            );
            if subject.clone().any(|subject| subject.header.is_some()) {
                let message = "a header is about the whole body: give a pointer";
                mistakes.push((format!("events[{index}].subject.header"), message));
            }
        }
        mistakes
    }
}
