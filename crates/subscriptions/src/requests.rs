//! What management asks for and how it is answered: the bodies of the API, which the command line uses, too.

use std::str::FromStr;

use event::{EventId, Timestamp};
use ledger::feed::Cursor;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::views::SubscriptionRow;
use crate::{Backfill, Declaration, GivenSecrets, Resume, Seek};

/// A subscription to add.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSubscription {
    /// What it asks for.
    pub declaration: Declaration,
    /// Its secrets, of a push subscription.
    #[serde(default)]
    pub secrets: GivenSecrets,
    /// Where it begins: `now`, `beginning`, a time, the id of an event, or a position of the feed.
    #[serde(default = "now")]
    #[schema(default = "now")]
    pub begin: String,
    /// Only check it.
    #[serde(default)]
    pub dry_run: bool,
}

/// What a subscription asks for from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Editing {
    /// All that it asks for.
    pub declaration: Declaration,
    /// Secrets that become others; those that are not given stay.
    #[serde(default)]
    pub secrets: GivenSecrets,
    /// The `version` of the subscription that this was made of; if it has another one by now, nothing is changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
    /// Only check it.
    #[serde(default)]
    pub dry_run: bool,
}

/// What a change changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Edited {
    /// All that it asks for.
    pub declaration: Declaration,
    /// The secrets that are others than before, by name: `signing`, `headers.x-api-key`.
    pub secrets_changed: Vec<String>,
}

/// Makes a new secret.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    /// The signing secret (`whsec_…`) of a push subscription; one is made where none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// How long requests are also signed with the previous one, in seconds; by default a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 2592000)]
    pub keep_s: Option<u64>,
}

fn now() -> String {
    "now".to_owned()
}

/// A subscription that was added, with what is shown only now.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct Added {
    /// The subscription.
    #[serde(flatten)]
    pub subscription: SubscriptionRow,
    /// What is shown only now.
    #[serde(flatten)]
    pub shown_once: ShownOnce,
}

/// Secrets that were made. Nobody can read them again.
#[derive(Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct ShownOnce {
    /// The secret that the requests of this push subscription are signed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// The token that reads this pull subscription, and opens nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The user of RabbitMQ that reads this queue, and nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Its password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// The queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
}

/// How a subscription is removed.
#[derive(Clone, Copy, Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Removing {
    /// Remove a queue with the messages in it, also those that its consumers hold.
    pub discard: Option<bool>,
    /// Only say whether it would be removed.
    pub dry_run: Option<bool>,
}

/// A subscription, whole.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SubscriptionDetail {
    /// What a list shows of it.
    #[serde(flatten)]
    pub row: SubscriptionRow,
    /// What it asks for.
    pub declaration: Declaration,
    /// The part of history that is delivered again beside the live events, while it is.
    pub backfill: Option<Backfill>,
    /// Goes up with every change: an edit that names it changes nothing that somebody else has changed meanwhile.
    pub version: i64,
    /// Requests that failed in a row.
    pub failures: i64,
    /// When it was added.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it was changed last.
    #[schema(value_type = String, format = DateTime)]
    pub changed_at: Timestamp,
}

/// Pauses a subscription.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Pausing {
    /// Why; shown with the subscription.
    #[serde(default)]
    pub reason: String,
}

/// Resumes a subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Resuming {
    /// Which of the events that waited are delivered: `all`, `none`, or those received since a time.
    #[schema(example = "all")]
    pub deliver: String,
}

/// Sets the position of a subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Seeking {
    /// Where it goes on: `now`, `beginning`, a time, with an event, or after a position of the feed.
    #[schema(example = "2026-11-22T12:00:00Z")]
    pub to: String,
    /// Of a push subscription that goes back: deliver what is between that place and its position beside the live events, at
    /// most so many in a second. While an earlier such part of history is still being delivered, what is left of it is included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 100000)]
    pub rate_per_s: Option<u32>,
}

/// How far the reader of a pull subscription has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Acknowledged {
    /// The `position` of the last event that was dealt with, or the header `malote-position` of an answer.
    pub position: String,
}

/// Tries a subscription on events on record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    /// What is tried, whether it exists or not; without it, the subscription as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declaration: Option<Declaration>,
    /// Only this event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub event: Option<EventId>,
    /// The last events on record, so many of them: 1 to 1,000, by default 1,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1000)]
    pub last: Option<u32>,
}

/// What a trial found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TrialOutcome {
    /// How many events were looked at.
    pub looked_at: u64,
    /// How many of them have a topic of the subscription.
    pub of_topics: u64,
    /// How many of those pass the filter, and are delivered.
    pub matching: u64,
    /// On how many the filter fails: an event is too large for it, or has another type.
    pub failing: u64,
    /// The first of these failures.
    pub failure: Option<String>,
    /// What is delivered of the newest ones, the last first.
    pub deliveries: Vec<TrialDelivery>,
}

/// What is delivered of one event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TrialDelivery {
    /// The event's id.
    pub id: String,
    /// Its topic.
    pub topic: String,
    /// Its subject.
    pub subject: Option<String>,
    /// The body: as JSON where it is JSON, else as a text.
    #[schema(value_type = Object)]
    pub body: serde_json::Value,
    /// Why the transform has no result for it: the event stays undelivered.
    pub error: Option<String>,
    /// Whether it is shown as if personal data in the event were masked; then `reveal=true` asks for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub masked: bool,
}

/// The text is not a place of the feed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected beginning, now, a time such as 2026-11-22T12:00:00Z, the id of an event, or a position of the feed, got {0:?}"
)]
pub struct BadPlace(String);

impl FromStr for Seek {
    type Err = BadPlace;

    fn from_str(text: &str) -> Result<Self, BadPlace> {
        let event = || text.parse::<EventId>().ok().map(Self::Event);
        let time = || text.parse::<Timestamp>().ok().map(Self::Time);
        let cursor = || text.parse::<Cursor>().ok().map(Self::Cursor);
        match text {
            "beginning" => Ok(Self::Beginning),
            "now" => Ok(Self::Now),
            _ => event()
                .or_else(time)
                .or_else(cursor)
                .ok_or_else(|| BadPlace(text.chars().take(100).collect())),
        }
    }
}

/// The text does not say which of the events that waited are delivered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected all, none, or a time such as 2026-11-22T12:00:00Z, got {0:?}")]
pub struct BadResume(String);

impl FromStr for Resume {
    type Err = BadResume;

    fn from_str(text: &str) -> Result<Self, BadResume> {
        match text {
            "all" => Ok(Self::All),
            "none" => Ok(Self::None),
            _ => text.parse().map(Self::Since).map_err(|_| BadResume(text.chars().take(100).collect())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_an_end_a_time_an_event_or_a_position() {
        let event = EventId::generate();
        let cursor = format!("2f.{}", event.to_hex());
        assert_eq!("now".parse(), Ok(Seek::Now));
        assert_eq!("beginning".parse(), Ok(Seek::Beginning));
        assert_eq!(event.to_string().parse(), Ok(Seek::Event(event)));
        assert!(matches!("2026-11-22T12:00:00-03:00".parse(), Ok(Seek::Time(_))));
        assert_eq!(cursor.parse(), Ok(Seek::Cursor(cursor.parse().unwrap())));
        for text in ["", "yesterday", "2f", "2026-11-22"] {
            assert!(
                text.parse::<Seek>().unwrap_err().to_string().starts_with("expected beginning"),
                "{text}"
            );
        }
    }

    #[test]
    fn resuming_says_what_becomes_of_what_waited() {
        assert_eq!(("all".parse(), "none".parse()), (Ok(Resume::All), Ok(Resume::None)));
        assert!(matches!("2026-11-22T12:00:00Z".parse(), Ok(Resume::Since(_))));
        assert!("some".parse::<Resume>().is_err());
    }
}
