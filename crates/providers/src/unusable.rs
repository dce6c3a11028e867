//! Why a body cannot be used, in words that the sender can act on.

use event::BadName;

use crate::unexpected::Unexpected;

/// A body that cannot become an event. `Display` says what is wrong, where, and what to do about it.
///
/// The text goes into the answer to the sender and into the record of rejected bodies; it quotes nothing of
/// the body, so it holds neither personal data nor a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct Unusable(Problem);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Problem {
    #[error("the body is empty; send the provider's notice as the body")]
    Empty,
    #[error(
        "the body is not UTF-8: byte {offset} is the first that is not, and the declared charset is not read here; \
         send the body as UTF-8"
    )]
    NotUtf8 { offset: usize },
    #[error("the body is not JSON: {problem} at line {line}, column {column}; send one whole JSON object")]
    NotJson { problem: String, line: usize, column: usize },
    #[error("the body is nested deeper than 128 levels; send a flatter one")]
    TooDeep,
    #[error("the body: expected an object, got {got}; send one JSON object")]
    NotAnObject { got: &'static str },
    #[error("the body is not XML: {problem} at byte {offset}; send one whole document")]
    NotXml { problem: &'static str, offset: u64 },
    #[error("{place}: expected the array with the events; send one, or one event as an object")]
    EventsMissing { place: String },
    #[error("{place}: expected an object, got {got}; send each event as a JSON object")]
    EventType { place: String, got: &'static str },
    #[error("{place}: expected at most {limit} events, got {got}; send them in several requests")]
    TooManyEvents { place: String, limit: usize, got: usize },
    #[error("{place}: given twice; send it once")]
    Duplicate { place: String },
    #[error("{place}: missing, and it says what happened; send it as a string")]
    TopicMissing { place: String },
    #[error("{place}: expected a string, got {got}; send what happened as a string")]
    TopicType { place: String, got: &'static str },
    #[error("{place}: {rule}; send a name that keeps to this")]
    TopicName { place: String, rule: BadName },
    #[error("{place}: {problem}; send an identifier that keeps to this")]
    Id { place: String, problem: Unexpected },
}

impl From<Problem> for Unusable {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<&serde_json::Error> for Unusable {
    /// A syntax error, whose text names characters that were expected and quotes nothing.
    fn from(error: &serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        let text = error.to_string();
        let problem =
            text.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&text).to_owned();
        Self(Problem::NotJson { problem, line, column })
    }
}
