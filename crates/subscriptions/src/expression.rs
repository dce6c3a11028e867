//! Filters and transforms: expressions in CEL (Common Expression Language) over an event and its data.
//!
//! Promises that compiling takes time in proportion to the text, and that an evaluation ends after a bounded number of steps,
//! whatever the expression and the event are. Neither panics, and recursion is bounded. No error quotes the event.
//!
//! The evaluator is malote's own because of that bound: those that exist evaluate without a limit, so that a few nested
//! loops over a large body, or a text that is doubled a few times, would take a process down. It has what filters need of CEL:
//! all operators and macros, the standard functions but `matches`, and the common ones of the extension for strings.
//! Arithmetic may mix integers and doubles, because JSON has one kind of number.
//!
//! ```
//! use subscriptions::{Expression, Input};
//!
//! let input = Input {
//!     event: serde_json::json!({"type": "order.created", "subject": "order/7"}),
//!     data: serde_json::json!({"total": 120.5, "items": [{"sku": "A"}]}),
//! };
//! let filter = Expression::filter("event.type.startsWith('order.') && data.total > 100")?;
//! assert!(filter.matches(&input)?);
//! let transform = Expression::transform("{'order': event.subject, 'skus': data.items.map(item, item.sku)}")?;
//! assert_eq!(transform.apply(&input)?, r#"{"order":"order/7","skus":["A"]}"#);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod ast;
mod evaluate;
mod fault;
mod functions;
mod lexer;
mod parser;
#[cfg(test)]
mod tests;
mod value;

use std::borrow::Cow;

use bytes::Bytes;
use ledger::feed::FeedEvent;
use serde_json::{Value as Json, json};

use self::ast::Node;
use self::evaluate::Evaluation;
use self::fault::{Fault, Steps};
use self::lexer::Misread;
use self::value::Value;

/// How many bytes the text of an expression has at most.
const TEXT_BYTES: usize = 16 << 10;

/// An expression that was compiled.
#[derive(Debug)]
pub struct Expression {
    text: String,
    root: Node,
}

/// What an expression is evaluated on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Input {
    /// The attributes of the CloudEvent, by name: `event`.
    pub event: Json,
    /// The value of the body: `data`.
    pub data: Json,
}

/// Why a text is no expression, and where: lines and columns are counted from one, columns in characters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct ExpressionError {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
    /// What is wrong there.
    pub message: String,
}

/// Why an expression has no value for an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvaluationError {
    /// It names a field or an item that the event does not have.
    #[error("line {line}, column {column}: there is no {what}")]
    Missing {
        /// The line in the expression.
        line: usize,
        /// The column in the expression.
        column: usize,
        /// What is missing.
        what: Cow<'static, str>,
    },
    /// A value has a type that does not fit, a number is divided by zero, and the like.
    #[error("line {line}, column {column}: {message}")]
    Failed {
        /// The line in the expression.
        line: usize,
        /// The column in the expression.
        column: usize,
        /// What is wrong there.
        message: Cow<'static, str>,
    },
    /// The event is too large for what the expression does with it.
    #[error("the expression takes more than {} steps on this event", fault::STEPS)]
    TooCostly,
}

impl Expression {
    /// Compiles a filter, whose value is true or false.
    pub fn filter(text: &str) -> Result<Self, ExpressionError> {
        let expression = Self::transform(text)?;
        match expression.root.certain_type() {
            None => Ok(expression),
            Some(found) => {
                let message = format!("a filter is true or false, and this is {found}");
                Err(error(text, Misread { at: expression.root.at, message }))
            }
        }
    }

    /// Compiles a transform, whose value becomes a body.
    pub fn transform(text: &str) -> Result<Self, ExpressionError> {
        if text.len() > TEXT_BYTES {
            let message = format!("the expression is longer than {} KiB", TEXT_BYTES >> 10);
            return Err(ExpressionError { line: 1, column: 1, message });
        }
        let root = parser::parse(text).map_err(|misread| error(text, misread))?;
        Ok(Self { text: text.to_owned(), root })
    }

    /// Whether the event matches the filter. One that lacks a field or an item that the filter names does not match; any
    /// other error is an error. May take some tens of milliseconds: not for threads that must not block.
    pub fn matches(&self, input: &Input) -> Result<bool, EvaluationError> {
        match Self::evaluation(input).bool(&self.root).map_err(|fault| self.error(fault)) {
            Err(EvaluationError::Missing { .. }) => Ok(false),
            result => result,
        }
    }

    /// The value of the transform as JSON. May take some tens of milliseconds: not for threads that must not block.
    pub fn apply(&self, input: &Input) -> Result<Bytes, EvaluationError> {
        let mut evaluation = Self::evaluation(input);
        let mut json = Vec::new();
        evaluation
            .value(&self.root)
            .and_then(|value| evaluation.write(&value, &mut json))
            .map_err(|fault| self.error(fault))?;
        Ok(json.into())
    }

    fn evaluation(input: &Input) -> Evaluation<'_> {
        let event = input.event.as_object();
        let attributes = event.into_iter().flatten().map(|(name, json)| {
            let time = json.as_str().filter(|_| name == "time").and_then(|text| text.parse().ok());
            (Value::from(name.as_str()), time.map_or_else(|| Value::from(json), Value::Timestamp))
        });
        let event = Value::map(attributes.collect()).unwrap_or(Value::Null);
        Evaluation { steps: Steps::new(), event, data: Value::from(&input.data), variables: Vec::new() }
    }

    fn error(&self, Fault { at, kind }: Fault) -> EvaluationError {
        let (line, column) = position(&self.text, at.unwrap_or(self.root.at));
        match kind {
            fault::Kind::Missing(what) => EvaluationError::Missing { line, column, what },
            fault::Kind::Failed(message) => EvaluationError::Failed { line, column, message },
            fault::Kind::Exhausted => EvaluationError::TooCostly,
        }
    }
}

fn error(text: &str, Misread { at, message }: Misread) -> ExpressionError {
    let (line, column) = position(text, at);
    ExpressionError { line, column, message }
}

/// Line and column of an offset in bytes.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..at];
    let line = before.rfind('\n').map_or(before, |end| &before[end + 1..]);
    (1 + before.matches('\n').count(), 1 + line.chars().count())
}

impl Input {
    /// An event on record. Its body is read as leniently as domains read it.
    pub fn new(event: &FeedEvent) -> Self {
        let mut attributes = json!({
            "specversion": "1.0",
            "id": event.id.to_string(),
            "source": event.source(),
            "type": event.topic(),
            "time": event.received_at.to_string(),
            "provider": event.provider(),
        });
        let optional = [
            ("subject", event.subject.clone()),
            ("datacontenttype", Some(event.content_type.clone()).filter(|text| !text.is_empty())),
            ("traceparent", event.traceparent.clone()),
            ("replayof", event.replay_of.map(|id| id.to_string())),
            ("causedby", event.caused_by.map(|id| id.to_string())),
            ("duplicateof", event.duplicate_of.map(|id| id.to_string())),
        ];
        for (name, text) in optional {
            if let Some(text) = text {
                attributes[name] = text.into();
            }
        }
        if event.is_repaired {
            attributes["repaired"] = true.into();
        }
        Self { event: attributes, data: providers::body_value(&event.body, &event.content_type) }
    }
}
