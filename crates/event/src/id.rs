//! The identifier that an event keeps from its receipt to its last replay.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A UUIDv7 given at receipt: ids sort by time of receipt (to the millisecond; RFC 9562, section 5.7).
///
/// The same text is the CloudEvents `id`, the AMQP `message_id` and the `webhook-id` of a push.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventId(Uuid);

impl EventId {
    /// A new id, greater than every id this process gave before.
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }

    /// The id of `original` when `job` sends it again as an event of its own: the same two give the same id, which
    /// sorts with the ids given when the job began.
    pub fn derived(job: Self, original: Self) -> Self {
        // FNV-1a (Noll; 64 bit) of both ids: spreads what is random in a UUIDv7, and nobody gains by a collision.
        let hash = job
            .0
            .as_bytes()
            .iter()
            .chain(original.0.as_bytes())
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
            });
        let mut random = [0; 10];
        // Of the original, its last two bytes beside the hash.
        random[..2].copy_from_slice(&original.0.as_bytes()[14..]);
        random[2..].copy_from_slice(&hash.to_be_bytes());
        Self(uuid::Builder::from_unix_timestamp_millis(job.milliseconds(), &random).into_uuid())
    }

    /// The id of a domain event, or of a message that came without one, derived from its contents: the same parts give the
    /// same id.
    pub fn from_parts<'a>(milliseconds: u64, parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        // FNV-1a (Noll; 128 bit). Each part ends with its length, so that parts do not run into each other.
        let mut hash = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128;
        for part in parts {
            for byte in part.iter().chain(&(part.len() as u64).to_be_bytes()) {
                hash = (hash ^ u128::from(*byte)).wrapping_mul(0x0100_0000_0000_0000_0000_013b);
            }
        }
        let mut random = [0; 10];
        random.copy_from_slice(&hash.to_be_bytes()[6..]);
        Self(uuid::Builder::from_unix_timestamp_millis(milliseconds, &random).into_uuid())
    }

    /// When it was given, in milliseconds since 1970 UTC: the first 48 bits (RFC 9562, section 5.7).
    pub fn milliseconds(self) -> u64 {
        self.0.as_bytes()[..6].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// Its 128 bits, the most significant first: ids compare as their bytes do.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The id of these bits.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// The `traceparent` (W3C Trace Context) of an event that came without one: its trace id is this id, so that either
    /// finds the other.
    pub fn traceparent(self) -> String {
        let mut digits = [0; 32];
        let trace: &str = self.0.simple().encode_lower(&mut digits);
        // The last half of a UUIDv7 is random.
        ["00-", trace, "-", &trace[16..], "-01"].concat()
    }

    /// The text that [`fmt::Display`] writes, made without a formatter.
    pub fn to_text(self) -> String {
        self.0.hyphenated().encode_lower(&mut [0; 36]).to_owned()
    }

    /// Its 128 bits as 32 hexadecimal digits, in lower case.
    pub fn to_hex(self) -> String {
        self.0.simple().encode_lower(&mut [0; 32]).to_owned()
    }
}

/// The text is not a UUID.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("expected an event id (a UUID such as 0199d3c0-1f2e-7abc-8def-0123456789ab), got {0:?}")]
pub struct NotAnEventId(pub String);

impl FromStr for EventId {
    type Err = NotAnEventId;

    fn from_str(text: &str) -> Result<Self, NotAnEventId> {
        Uuid::parse_str(text).map(Self).map_err(|_| NotAnEventId(text.to_owned()))
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_in_the_order_they_are_given() {
        let ids: Vec<_> = (0..1000).map(|_| EventId::generate()).collect();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1] && pair[0].to_string() < pair[1].to_string()));
    }

    #[test]
    fn a_derived_id_is_the_same_for_the_same_two_and_sorts_with_the_job() {
        let (one, other, job) = (EventId::generate(), EventId::generate(), EventId::generate());
        let derived = EventId::derived(job, one);
        assert_eq!(derived, EventId::derived(job, one));
        assert_ne!(derived, EventId::derived(job, other));
        assert_ne!(derived, EventId::derived(other, one));
        assert_eq!(derived.milliseconds(), job.milliseconds());
        assert_eq!(derived.0.get_version_num(), 7);
        let now = u64::try_from(crate::now().as_millisecond()).unwrap();
        assert!(now.abs_diff(job.milliseconds()) < 60_000);
    }

    #[test]
    fn the_same_parts_have_one_id() {
        let id = |parts: &[&str]| EventId::from_parts(7, parts.iter().map(|part| part.as_bytes()));
        assert_eq!(id(&["a", "bc"]), id(&["a", "bc"]));
        assert_eq!((id(&["a"]).milliseconds(), id(&["a"]).0.get_version_num()), (7, 7));
        for other in [&["ab", "c"][..], &["abc"], &["a", "bc", ""], &["a", "bd"], &[]] {
            assert_ne!(id(&["a", "bc"]), id(other), "{other:?}");
        }
    }

    #[test]
    fn an_id_survives_its_text_and_other_text_is_refused_by_name() {
        let id = EventId::generate();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_text(), id.to_string());
        assert!("order-1".parse::<EventId>().unwrap_err().to_string().ends_with(r#"got "order-1""#));
    }
}
