//! The tree of an expression. Names are resolved, and its depth is bounded: whatever walks it may recurse.

use super::functions::Function;
use super::value::Literal;

/// A part of an expression.
#[derive(Debug)]
pub(super) struct Node {
    /// Where it begins in the text, in bytes; of an operator with two sides, where its sign is.
    pub(super) at: usize,
    /// One more than that of its deepest part.
    pub(super) depth: u32,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    Literal(Literal),
    /// `event`
    Event,
    /// `data`
    Data,
    /// The variable of a loop, by how many loops are around its own.
    Variable(usize),
    /// The name of a type.
    Type(&'static str),
    /// `operand.field`
    Select(Box<Node>, String),
    /// `has(operand.field)`
    Has(Box<Node>, String),
    /// `operand[index]`
    Index(Box<[Node; 2]>),
    Not(Box<Node>),
    Negative(Box<Node>),
    Binary(Operator, Box<[Node; 2]>),
    /// `a && b && …`
    And(Vec<Node>),
    /// `a || b || …`
    Or(Vec<Node>),
    /// `condition ? then : otherwise`
    Conditional(Box<[Node; 3]>),
    List(Vec<Node>),
    /// Pairs of key and value.
    Map(Vec<[Node; 2]>),
    /// A function with its arguments; the receiver of a method is the first.
    Call(&'static Function, Vec<Node>),
    Loop(Box<Loop>),
}

/// A macro that visits the items of a list, or the keys of a map.
#[derive(Debug)]
pub(super) struct Loop {
    pub(super) form: Form,
    pub(super) range: Node,
    /// The condition of `map` with three arguments.
    pub(super) condition: Option<Node>,
    pub(super) body: Node,
}

/// Which macro.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    All,
    Exists,
    ExistsOne,
    Filter,
    Map,
}

impl Form {
    pub(super) fn new(name: &str) -> Option<Self> {
        match name {
            "all" => Some(Self::All),
            "exists" => Some(Self::Exists),
            "exists_one" | "existsOne" => Some(Self::ExistsOne),
            "filter" => Some(Self::Filter),
            "map" => Some(Self::Map),
            _ => None,
        }
    }
}

/// An operator with two sides that evaluates both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

impl Operator {
    /// As it is written.
    pub(super) fn sign(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::In => "in",
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
        }
    }
}

impl Node {
    pub(super) fn new(at: usize, kind: Kind) -> Self {
        Self { at, depth: 1 + kind.depth(), kind }
    }

    /// The type of its value, if it is certain and none that a filter can have.
    pub(super) fn certain_type(&self) -> Option<&'static str> {
        match &self.kind {
            Kind::Literal(Literal::Bool(_)) => None,
            Kind::Literal(Literal::Text(_)) => Some("a string"),
            Kind::Literal(Literal::Null) => Some("null"),
            Kind::Literal(_) | Kind::Negative(_) => Some("a number"),
            Kind::List(_) => Some("a list"),
            Kind::Map(_) | Kind::Event => Some("a map"),
            Kind::Type(_) => Some("a type"),
            Kind::Loop(it) if matches!(it.form, Form::Filter | Form::Map) => Some("a list"),
            Kind::Binary(
                Operator::Add
                | Operator::Subtract
                | Operator::Multiply
                | Operator::Divide
                | Operator::Remainder,
                _,
            ) => Some("arithmetic"),
            Kind::Conditional(parts) => parts[1].certain_type().or_else(|| parts[2].certain_type()),
            _ => None,
        }
    }
}

impl Kind {
    fn depth(&self) -> u32 {
        fn deepest<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> u32 {
            nodes.into_iter().map(|node| node.depth).max().unwrap_or(0)
        }
        match self {
            Self::Literal(_) | Self::Event | Self::Data | Self::Variable(_) | Self::Type(_) => 0,
            Self::Select(node, _) | Self::Has(node, _) | Self::Not(node) | Self::Negative(node) => node.depth,
            Self::Index(nodes) | Self::Binary(_, nodes) => deepest(nodes.as_slice()),
            Self::Conditional(nodes) => deepest(nodes.as_slice()),
            Self::And(nodes) | Self::Or(nodes) | Self::List(nodes) | Self::Call(_, nodes) => deepest(nodes),
            Self::Map(entries) => deepest(entries.as_flattened()),
            Self::Loop(it) => deepest([&it.range, &it.body].into_iter().chain(&it.condition)),
        }
    }
}
