//! The values of an evaluation: scalars, parts of the event, which are borrowed, and what an expression builds.
//!
//! Copying one takes the same short time whatever its size.

use std::cmp::Ordering;
use std::rc::Rc;

use event::Timestamp;
use jiff::SignedDuration;
use serde_json::Value as Json;

use super::fault::Fault;

/// How deep lists and maps that are built may be nested.
const MOST_DEPTH: u32 = 64;

/// A constant in the text of an expression.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(String),
}

/// A value.
#[derive(Clone, Debug)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Text<'a>),
    Timestamp(Timestamp),
    Duration(SignedDuration),
    /// A list of the event.
    Array(&'a [Json]),
    /// A map of the event.
    Object(&'a serde_json::Map<String, Json>),
    /// A list that was built.
    List(Rc<Built<Value<'a>>>),
    /// A map that was built.
    Map(Rc<Built<(Value<'a>, Value<'a>)>>),
    /// A type, by its name.
    Type(&'static str),
}

/// The items of a list or map that was built.
#[derive(Debug)]
pub(super) struct Built<T> {
    pub(super) items: Vec<T>,
    /// How deep lists and maps that were built are nested here.
    depth: u32,
}

/// A text of the event or the expression, or one that was built.
#[derive(Clone, Debug)]
pub(super) enum Text<'a> {
    Borrowed(&'a str),
    Shared(Rc<str>),
}

impl Text<'_> {
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Shared(text) => text,
        }
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(Text::Borrowed(text))
    }
}

impl<'a> From<&'a Json> for Value<'a> {
    /// An integer is an int, or a uint where it does not fit; any other number is a double.
    fn from(json: &'a Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(bool) => Self::Bool(*bool),
            Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
                (Some(int), ..) => Self::Int(int),
                (None, Some(uint), _) => Self::Uint(uint),
                (None, None, double) => Self::Double(double.unwrap_or(f64::NAN)),
            },
            Json::String(text) => text.as_str().into(),
            Json::Array(items) => Self::Array(items),
            Json::Object(map) => Self::Object(map),
        }
    }
}

impl<'a> From<&'a Literal> for Value<'a> {
    fn from(literal: &'a Literal) -> Self {
        match literal {
            Literal::Null => Self::Null,
            Literal::Bool(bool) => Self::Bool(*bool),
            Literal::Int(int) => Self::Int(*int),
            Literal::Uint(uint) => Self::Uint(*uint),
            Literal::Double(double) => Self::Double(*double),
            Literal::Text(text) => text.as_str().into(),
        }
    }
}

impl<'a> Value<'a> {
    /// A text that was built.
    pub(super) fn text(text: impl Into<Rc<str>>) -> Self {
        Self::Text(Text::Shared(text.into()))
    }

    /// A list that was built.
    pub(super) fn list(items: Vec<Value<'a>>) -> Result<Self, Fault> {
        let depth = built_depth(items.iter())?;
        Ok(Self::List(Rc::new(Built { items, depth })))
    }

    /// A map that was built.
    pub(super) fn map(items: Vec<(Value<'a>, Value<'a>)>) -> Result<Self, Fault> {
        let depth = built_depth(items.iter().map(|(_, value)| value))?;
        Ok(Self::Map(Rc::new(Built { items, depth })))
    }

    /// The name of its type.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::Text(_) => "string",
            Self::Timestamp(_) => "timestamp",
            Self::Duration(_) => "duration",
            Self::Array(_) | Self::List(_) => "list",
            Self::Object(_) | Self::Map(_) => "map",
            Self::Type(_) => "type",
        }
    }

    /// How many items a list or entries a map has; `None` for anything else.
    pub(super) fn len(&self) -> Option<usize> {
        match self {
            Self::Array(items) => Some(items.len()),
            Self::List(list) => Some(list.items.len()),
            Self::Object(map) => Some(map.len()),
            Self::Map(map) => Some(map.items.len()),
            _ => None,
        }
    }

    /// An item of a list.
    pub(super) fn item(&self, index: usize) -> Option<Value<'a>> {
        match self {
            Self::Array(items) => items.get(index).map(Value::from),
            Self::List(list) => list.items.get(index).cloned(),
            _ => None,
        }
    }

    /// The items of a list.
    pub(super) fn items(&self) -> Option<Vec<Value<'a>>> {
        match self {
            Self::Array(items) => Some(items.iter().map(Value::from).collect()),
            Self::List(list) => Some(list.items.clone()),
            _ => None,
        }
    }

    /// The entries of a map.
    pub(super) fn entries(&self) -> Option<Vec<(Value<'a>, Value<'a>)>> {
        match self {
            Self::Object(map) => {
                Some(map.iter().map(|(key, value)| (key.as_str().into(), value.into())).collect())
            }
            Self::Map(map) => Some(map.items.clone()),
            _ => None,
        }
    }

    /// See [`Built::depth`].
    fn depth(&self) -> u32 {
        match self {
            Self::List(list) => list.depth,
            Self::Map(map) => map.depth,
            _ => 0,
        }
    }

    /// The order of two scalars that have one; numbers of all types are compared by their values.
    pub(super) fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Text(a), Self::Text(b)) => Some(a.as_str().cmp(b.as_str())),
            (Self::Bool(a), Self::Bool(b)) => Some(a.cmp(b)),
            (Self::Timestamp(a), Self::Timestamp(b)) => Some(a.cmp(b)),
            (Self::Duration(a), Self::Duration(b)) => Some(a.cmp(b)),
            (Self::Double(a), Self::Double(b)) => a.partial_cmp(b),
            (Self::Double(a), b) => compare_with_double(b.integer()?, *a).map(Ordering::reverse),
            (a, Self::Double(b)) => compare_with_double(a.integer()?, *b),
            (a, b) => Some(a.integer()?.cmp(&b.integer()?)),
        }
    }

    /// Whether it is a number.
    pub(super) fn is_number(&self) -> bool {
        matches!(self, Self::Int(_) | Self::Uint(_) | Self::Double(_))
    }

    /// The value of an int or a uint.
    pub(super) fn integer(&self) -> Option<i128> {
        match self {
            Self::Int(int) => Some(i128::from(*int)),
            Self::Uint(uint) => Some(i128::from(*uint)),
            _ => None,
        }
    }

    /// The value of a number as a double, which may be rounded.
    pub(super) fn double(&self) -> Option<f64> {
        match self {
            Self::Int(int) => Some(*int as f64),
            Self::Uint(uint) => Some(*uint as f64),
            Self::Double(double) => Some(*double),
            _ => None,
        }
    }
}

/// The depth of what is built of these parts. It is bounded, so that whatever walks a value may recurse.
fn built_depth<'v, 'a: 'v>(parts: impl Iterator<Item = &'v Value<'a>>) -> Result<u32, Fault> {
    let depth = 1 + parts.map(Value::depth).max().unwrap_or(0);
    if depth > MOST_DEPTH {
        return Err(Fault::failed(format!("the value is nested more than {MOST_DEPTH} deep")));
    }
    Ok(depth)
}

/// The exact order of an integer and a double; `None` if that is no number.
fn compare_with_double(integer: i128, double: f64) -> Option<Ordering> {
    // Beyond every integer of 64 bits, where the conversion below would not be exact.
    const BEYOND: f64 = 1e30;
    if double.is_nan() {
        return None;
    }
    let whole = double.clamp(-BEYOND, BEYOND).trunc() as i128;
    Some(integer.cmp(&whole).then_with(|| 0.0.partial_cmp(&double.fract()).unwrap_or(Ordering::Equal)))
}
