//! The parser: operators by precedence, macros and names (CEL specification, "Syntax" and "Macros").
//!
//! Promises a tree of bounded depth for every text, in time proportional to its length.

use event::nearest;

use super::ast::{Form, Kind, Loop, Node, Operator};
use super::functions::{self, Misused};
use super::lexer::{Lexeme, Misread, Token, tokens};
use super::value::Literal;

/// How deep an expression may be nested.
pub(super) const MOST_DEPTH: u32 = 64;

/// The attributes that an event can have.
const ATTRIBUTES: [&str; 13] = [
    "causedby",
    "datacontenttype",
    "duplicateof",
    "id",
    "provider",
    "repaired",
    "replayof",
    "source",
    "specversion",
    "subject",
    "time",
    "traceparent",
    "type",
];

/// What the specification reserves; `in`, `true`, `false` and `null` have a meaning.
const RESERVED: [&str; 20] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "namespace",
    "null",
    "package",
    "return",
    "true",
    "var",
    "while",
];

/// The names of types, as `type()` returns them.
const TYPES: [&str; 8] = ["int", "uint", "double", "string", "bool", "list", "map", "null_type"];

/// The tree of a text.
pub(super) fn parse(text: &str) -> Result<Node, Misread> {
    let mut parser = Parser { tokens: tokens(text)?, next: 0, nested: 0, variables: Vec::new() };
    let node = parser.expression()?;
    match parser.peek() {
        Lexeme::End => Ok(node),
        _ => Err(parser.unexpected("an operator or the end")),
    }
}

struct Parser {
    tokens: Vec<Token>,
    next: usize,
    /// How deep the call of [`Self::expression`] is nested.
    nested: u32,
    /// The names of the loops' variables around the present place, from the outside.
    variables: Vec<String>,
}

impl Parser {
    fn peek(&self) -> &Lexeme {
        &self.tokens[self.next].lexeme
    }

    fn at(&self) -> usize {
        self.tokens[self.next].at
    }

    /// Consumes a sign or the keyword `in`, if it is next.
    fn take(&mut self, sign: &str) -> bool {
        let is_next = match self.peek() {
            Lexeme::Sign(next) => *next == sign,
            Lexeme::Name(name) => sign == "in" && name == "in",
            _ => false,
        };
        self.next += usize::from(is_next);
        is_next
    }

    fn expect(&mut self, sign: &str) -> Result<(), Misread> {
        if self.take(sign) { Ok(()) } else { Err(self.unexpected(&format!("`{sign}`"))) }
    }

    fn unexpected(&self, expected: &str) -> Misread {
        let found = match self.peek() {
            Lexeme::Literal(Literal::Text(_)) => "a string".to_owned(),
            Lexeme::Literal(_) | Lexeme::Integer(_) => "a number".to_owned(),
            Lexeme::Name(name) | Lexeme::Quoted(name) => format!("`{name}`"),
            Lexeme::Sign(sign) => format!("`{sign}`"),
            Lexeme::End => "the end".to_owned(),
        };
        misread(self.at(), format!("expected {expected}, found {found}"))
    }

    fn node(&self, at: usize, kind: Kind) -> Result<Node, Misread> {
        let node = Node::new(at, kind);
        if node.depth > MOST_DEPTH { Err(too_deep(at)) } else { Ok(node) }
    }

    fn expression(&mut self) -> Result<Node, Misread> {
        if self.nested == MOST_DEPTH {
            return Err(too_deep(self.at()));
        }
        self.nested += 1;
        let node = self.conditional();
        self.nested -= 1;
        node
    }

    fn conditional(&mut self) -> Result<Node, Misread> {
        let condition = self.or()?;
        let at = self.at();
        if !self.take("?") {
            return Ok(condition);
        }
        let then = self.or()?;
        self.expect(":")?;
        let otherwise = self.expression()?;
        self.node(at, Kind::Conditional(Box::new([condition, then, otherwise])))
    }

    fn or(&mut self) -> Result<Node, Misread> {
        self.connected("||", Self::and, Kind::Or)
    }

    fn and(&mut self) -> Result<Node, Misread> {
        self.connected("&&", |parser| parser.binary(0), Kind::And)
    }

    /// One operand, or several with a sign between them, which are one node.
    fn connected(
        &mut self,
        sign: &str,
        operand: impl Fn(&mut Self) -> Result<Node, Misread>,
        kind: fn(Vec<Node>) -> Kind,
    ) -> Result<Node, Misread> {
        let first = operand(self)?;
        let at = self.at();
        if !self.take(sign) {
            return Ok(first);
        }
        let mut operands = vec![first, operand(self)?];
        while self.take(sign) {
            operands.push(operand(self)?);
        }
        self.node(at, kind(operands))
    }

    /// Operators of this level of precedence and higher ones.
    fn binary(&mut self, level: usize) -> Result<Node, Misread> {
        use Operator::{
            Add, Divide, Equal, Greater, GreaterOrEqual, In, Less, LessOrEqual, Multiply, NotEqual,
            Remainder, Subtract,
        };
        const LEVELS: [&[Operator]; 3] = [
            &[Equal, NotEqual, LessOrEqual, GreaterOrEqual, Less, Greater, In],
            &[Add, Subtract],
            &[Multiply, Divide, Remainder],
        ];
        let Some(operators) = LEVELS.get(level) else { return self.unary() };
        let mut left = self.binary(level + 1)?;
        loop {
            let at = self.at();
            let Some(operator) = operators.iter().find(|operator| self.take(operator.sign())) else {
                return Ok(left);
            };
            let right = self.binary(level + 1)?;
            left = self.node(at, Kind::Binary(*operator, Box::new([left, right])))?;
        }
    }

    fn unary(&mut self) -> Result<Node, Misread> {
        let mut signs = Vec::new();
        while let Some(sign) = ["!", "-"].into_iter().find(|sign| self.take(sign)) {
            signs.push((self.tokens[self.next - 1].at, sign));
        }
        let operand = match (signs.last().copied(), self.peek().clone()) {
            // The least integer has no positive counterpart.
            (Some((minus, "-")), Lexeme::Integer(number)) => {
                let Some(int) = 0_i64.checked_sub_unsigned(number) else {
                    return Err(misread(minus, "the number does not fit into 64 bits"));
                };
                self.next += 1;
                signs.pop();
                self.node(minus, Kind::Literal(Literal::Int(int)))?
            }
            _ => self.primary()?,
        };
        let mut node = self.member(operand)?;
        for (at, sign) in signs.into_iter().rev() {
            let operand = Box::new(node);
            node = self.node(at, if sign == "!" { Kind::Not(operand) } else { Kind::Negative(operand) })?;
        }
        Ok(node)
    }

    /// The fields, items and methods that follow an operand.
    fn member(&mut self, mut node: Node) -> Result<Node, Misread> {
        loop {
            let at = self.at();
            if self.take("[") {
                let index = self.expression()?;
                self.expect("]")?;
                node = self.node(at, Kind::Index(Box::new([node, index])))?;
            } else if self.take(".") {
                let at = self.at();
                let name = match self.peek() {
                    Lexeme::Name(name) if !["true", "false", "null", "in"].contains(&name.as_str()) => {
                        name.clone()
                    }
                    Lexeme::Quoted(name) => name.clone(),
                    _ => return Err(self.unexpected("the name of a field or method")),
                };
                self.next += 1;
                node = match (self.take("("), Form::new(&name)) {
                    (false, _) => self.field(at, node, name)?,
                    (true, Some(form)) => self.visits(at, form, node)?,
                    (true, None) => self.call(at, &name, Some(node))?,
                };
            } else {
                return Ok(node);
            }
        }
    }

    fn field(&self, at: usize, operand: Node, name: String) -> Result<Node, Misread> {
        if matches!(operand.kind, Kind::Event) && !ATTRIBUTES.contains(&name.as_str()) {
            let hint = match nearest(&name, ATTRIBUTES) {
                Some(meant) => format!("did you mean {meant}?"),
                None => format!("it has {}", ATTRIBUTES.join(", ")),
            };
            return Err(misread(at, format!("an event has no attribute {name:?}: {hint}")));
        }
        self.node(at, Kind::Select(Box::new(operand), name))
    }

    fn primary(&mut self) -> Result<Node, Misread> {
        let at = self.at();
        let lexeme = self.peek().clone();
        match lexeme {
            Lexeme::Literal(literal) => {
                self.next += 1;
                self.node(at, Kind::Literal(literal))
            }
            Lexeme::Integer(number) => {
                self.next += 1;
                let Ok(int) = i64::try_from(number) else {
                    return Err(misread(
                        at,
                        "the number does not fit into an int: write it as a uint, with a u",
                    ));
                };
                self.node(at, Kind::Literal(Literal::Int(int)))
            }
            Lexeme::Sign("(") => {
                self.next += 1;
                let node = self.expression()?;
                self.expect(")")?;
                Ok(node)
            }
            Lexeme::Sign("[") => {
                self.next += 1;
                let items = self.separated("]", Self::expression)?;
                self.node(at, Kind::List(items))
            }
            Lexeme::Sign("{") => {
                self.next += 1;
                let entries = self.separated("}", |parser| {
                    let key = parser.expression()?;
                    parser.expect(":")?;
                    Ok([key, parser.expression()?])
                })?;
                self.node(at, Kind::Map(entries))
            }
            Lexeme::Name(name) => {
                self.next += 1;
                self.name(at, &name)
            }
            _ => Err(self.unexpected("a value")),
        }
    }

    /// What a name at the beginning of an operand stands for.
    fn name(&mut self, at: usize, name: &str) -> Result<Node, Misread> {
        if self.take("(") {
            return if name == "has" { self.has(at) } else { self.call(at, name, None) };
        }
        let variable = self.variables.iter().rposition(|variable| variable == name);
        let kind = match name {
            _ if variable.is_some() => Kind::Variable(variable.unwrap_or_default()),
            "event" => Kind::Event,
            "data" => Kind::Data,
            "true" | "false" => Kind::Literal(Literal::Bool(name == "true")),
            "null" => Kind::Literal(Literal::Null),
            _ => match TYPES.into_iter().find(|known| *known == name) {
                Some(known) => Kind::Type(known),
                None if RESERVED.contains(&name) => {
                    return Err(misread(at, format!("`{name}` is a reserved word")));
                }
                None => {
                    let known = self.variables.iter().map(String::as_str).chain(["event", "data"]);
                    let hint = match nearest(name, known) {
                        Some(meant) => format!("did you mean {meant}?"),
                        None => format!("a field of the body is data.{name}"),
                    };
                    return Err(misread(at, format!("unknown name {name:?}: {hint}")));
                }
            },
        };
        if matches!(self.peek(), Lexeme::Sign("{")) {
            return Err(misread(
                self.at(),
                "messages are not supported: write a map, such as {\"id\": event.id}",
            ));
        }
        self.node(at, kind)
    }

    fn has(&mut self, at: usize) -> Result<Node, Misread> {
        let argument = self.expression()?;
        self.expect(")")?;
        match argument.kind {
            Kind::Select(operand, field) => self.node(at, Kind::Has(operand, field)),
            _ => Err(misread(
                argument.at,
                "has() takes a field, such as data.customer; a name with other characters is in backticks: \
                 data.`customer-id`",
            )),
        }
    }

    /// The call of a function, after its opening bracket.
    fn call(&mut self, at: usize, name: &str, receiver: Option<Node>) -> Result<Node, Misread> {
        let is_method = receiver.is_some();
        let mut arguments: Vec<Node> = receiver.into_iter().collect();
        arguments.extend(self.separated(")", Self::expression)?);
        match functions::find(name, is_method, arguments.len()) {
            Ok(function) => self.node(at, Kind::Call(function, arguments)),
            Err(Misused(message)) => Err(misread(at, message)),
        }
    }

    /// The rest of a macro that visits a range, after its opening bracket.
    fn visits(&mut self, at: usize, form: Form, range: Node) -> Result<Node, Misread> {
        let name_at = self.at();
        let variable = match self.peek() {
            Lexeme::Name(name) => name.clone(),
            _ => return Err(self.unexpected("the name of a variable")),
        };
        if RESERVED.contains(&variable.as_str()) || ["event", "data"].contains(&variable.as_str()) {
            return Err(misread(name_at, format!("`{variable}` cannot be the name of a variable")));
        }
        self.next += 1;
        self.expect(",")?;
        self.variables.push(variable);
        let first = self.expression()?;
        let second = if form == Form::Map && self.take(",") { Some(self.expression()?) } else { None };
        self.variables.pop();
        self.expect(")")?;
        let (condition, body) = match second {
            Some(body) => (Some(first), body),
            None => (None, first),
        };
        self.node(at, Kind::Loop(Box::new(Loop { form, range, condition, body })))
    }

    /// Parts with commas between them, up to the closing bracket.
    fn separated<T>(
        &mut self,
        close: &str,
        part: impl Fn(&mut Self) -> Result<T, Misread>,
    ) -> Result<Vec<T>, Misread> {
        let mut parts = Vec::new();
        while !self.take(close) {
            parts.push(part(self)?);
            if !self.take(",") {
                self.expect(close)?;
                break;
            }
        }
        Ok(parts)
    }
}

fn too_deep(at: usize) -> Misread {
    misread(at, format!("the expression is nested more than {MOST_DEPTH} deep"))
}

fn misread(at: usize, message: impl Into<String>) -> Misread {
    Misread { at, message: message.into() }
}
