//! The evaluation of a tree (CEL specification, "Evaluation").
//!
//! Promises to end after a bounded number of steps, whatever the expression and the event: every node, item and text that
//! is visited is spent before. Recursion is bounded by the depth of the tree and of the values.

use std::borrow::Cow;
use std::cmp::Ordering;

use serde::Serialize;

use super::ast::{Form, Kind, Loop, Node, Operator};
use super::fault::{self, Fault, Steps};
use super::functions::seconds;
use super::value::Value;

/// How many bytes the JSON of a result has at most.
pub(super) const RESULT_BYTES: usize = 4 << 20;

/// One evaluation.
pub(super) struct Evaluation<'a> {
    pub(super) steps: Steps,
    pub(super) event: Value<'a>,
    pub(super) data: Value<'a>,
    /// Those of the loops around the present node, from the outside.
    pub(super) variables: Vec<Value<'a>>,
}

impl<'a> Evaluation<'a> {
    /// The value of a node.
    pub(super) fn value(&mut self, node: &'a Node) -> Result<Value<'a>, Fault> {
        let value = self.steps.spend(1).and_then(|()| self.kind(&node.kind));
        value.map_err(|fault| fault.at(node.at))
    }

    /// The value of a node that must be a boolean.
    pub(super) fn bool(&mut self, node: &'a Node) -> Result<bool, Fault> {
        match self.value(node)? {
            Value::Bool(bool) => Ok(bool),
            other => {
                Err(Fault::failed(format!("expected true or false, got {}", other.type_name())).at(node.at))
            }
        }
    }

    fn values(&mut self, nodes: &'a [Node]) -> Result<Vec<Value<'a>>, Fault> {
        nodes.iter().map(|node| self.value(node)).collect()
    }

    fn kind(&mut self, kind: &'a Kind) -> Result<Value<'a>, Fault> {
        match kind {
            Kind::Literal(literal) => Ok(literal.into()),
            Kind::Event => Ok(self.event.clone()),
            Kind::Data => Ok(self.data.clone()),
            Kind::Variable(index) => Ok(self.variables[*index].clone()),
            Kind::Type(name) => Ok(Value::Type(name)),
            Kind::Select(operand, field) => {
                let value = self.value(operand)?;
                let found = self.field(&value, field)?;
                found.ok_or_else(|| fault::Kind::Missing(format!("field {field:?}").into()).into())
            }
            Kind::Has(operand, field) => {
                let value = self.value(operand)?;
                Ok(Value::Bool(self.field(&value, field)?.is_some()))
            }
            Kind::Index(nodes) => {
                let (value, index) = self.both(nodes)?;
                self.index(&value, &index)
            }
            Kind::Not(node) => Ok(Value::Bool(!self.bool(node)?)),
            Kind::Negative(node) => match self.value(node)? {
                Value::Int(int) => int.checked_neg().map(Value::Int).ok_or_else(overflow),
                Value::Double(double) => Ok(Value::Double(-double)),
                other => Err(Fault::failed(format!("`-` is not defined for {}", other.type_name()))),
            },
            Kind::Binary(operator, nodes) => {
                let (left, right) = self.both(nodes)?;
                self.binary(*operator, &left, &right)
            }
            Kind::And(nodes) => self.connected(nodes, false).map(Value::Bool),
            Kind::Or(nodes) => self.connected(nodes, true).map(Value::Bool),
            Kind::Conditional(nodes) => {
                let [condition, then, otherwise] = &**nodes;
                if self.bool(condition)? { self.value(then) } else { self.value(otherwise) }
            }
            Kind::List(nodes) => Value::list(self.values(nodes)?),
            Kind::Map(entries) => self.map(entries),
            Kind::Call(function, nodes) => {
                let arguments = self.values(nodes)?;
                function.call(&mut self.steps, &arguments)
            }
            Kind::Loop(it) => self.visit(it),
        }
    }

    fn both(&mut self, nodes: &'a [Node; 2]) -> Result<(Value<'a>, Value<'a>), Fault> {
        Ok((self.value(&nodes[0])?, self.value(&nodes[1])?))
    }

    /// `&&` and `||`: an operand that decides does so whatever the errors of others are.
    fn connected(&mut self, nodes: &'a [Node], decisive: bool) -> Result<bool, Fault> {
        let mut decision = Decision::new(decisive);
        for node in nodes {
            let found = self.bool(node);
            if decision.is_made_by(found)? {
                return Ok(decisive);
            }
        }
        decision.end()
    }

    fn map(&mut self, entries: &'a [[Node; 2]]) -> Result<Value<'a>, Fault> {
        let mut items: Vec<(Value<'a>, Value<'a>)> = Vec::with_capacity(entries.len());
        for nodes in entries {
            let (key, value) = self.both(nodes)?;
            if !matches!(key, Value::Text(_) | Value::Int(_) | Value::Uint(_) | Value::Bool(_)) {
                let message = format!("{} cannot be the key of a map", key.type_name());
                return Err(Fault::failed(message).at(nodes[0].at));
            }
            for (other, _) in &items {
                if self.equal(&key, other)? {
                    return Err(Fault::failed("the map has a key twice").at(nodes[0].at));
                }
            }
            items.push((key, value));
        }
        Value::map(items)
    }

    fn visit(&mut self, it: &'a Loop) -> Result<Value<'a>, Fault> {
        let range = self.value(&it.range)?;
        let Some(length) = range.len() else {
            let message = format!("a loop visits a list or a map, not {}", range.type_name());
            return Err(Fault::failed(message));
        };
        self.steps.spend(length)?;
        // A map is visited by its keys.
        let items = match range.entries() {
            Some(entries) => entries.into_iter().map(|(key, _)| key).collect(),
            None => range.items().unwrap_or_default(),
        };
        match it.form {
            Form::All | Form::Exists => {
                let decisive = it.form == Form::Exists;
                let mut decision = Decision::new(decisive);
                for item in items {
                    let found = self.within(item, |evaluation| evaluation.bool(&it.body));
                    if decision.is_made_by(found)? {
                        return Ok(Value::Bool(decisive));
                    }
                }
                decision.end().map(Value::Bool)
            }
            Form::ExistsOne => {
                let mut count = 0;
                for item in items {
                    count += u32::from(self.within(item, |evaluation| evaluation.bool(&it.body))?);
                }
                Ok(Value::Bool(count == 1))
            }
            Form::Filter => {
                let mut kept = Vec::new();
                for item in items {
                    if self.within(item.clone(), |evaluation| evaluation.bool(&it.body))? {
                        kept.push(item);
                    }
                }
                Value::list(kept)
            }
            Form::Map => {
                let mut results = Vec::new();
                for item in items {
                    let result = self.within(item, |evaluation| match &it.condition {
                        Some(condition) if !evaluation.bool(condition)? => Ok(None),
                        _ => evaluation.value(&it.body).map(Some),
                    })?;
                    results.extend(result);
                }
                Value::list(results)
            }
        }
    }

    /// Evaluates something with one more variable.
    fn within<T>(
        &mut self,
        variable: Value<'a>,
        evaluate: impl FnOnce(&mut Self) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        self.variables.push(variable);
        let result = evaluate(self);
        self.variables.pop();
        result
    }

    /// A field; `None` if it is missing. `null` has none.
    fn field(&mut self, value: &Value<'a>, name: &str) -> Result<Option<Value<'a>>, Fault> {
        match value {
            Value::Null => Ok(None),
            Value::Object(map) => Ok(map.get(name).map(Value::from)),
            Value::Map(_) => self.entry(value, &name.into()),
            other => Err(Fault::failed(format!("{} has no fields", other.type_name()))),
        }
    }

    /// The value of a key in a map; `None` if it is missing.
    fn entry<'v>(&mut self, map: &Value<'v>, key: &Value<'_>) -> Result<Option<Value<'v>>, Fault> {
        match (map, key) {
            (Value::Object(map), Value::Text(key)) => Ok(map.get(key.as_str()).map(Value::from)),
            (Value::Map(map), key) => {
                for (other, value) in &map.items {
                    if self.equal(key, other)? {
                        return Ok(Some(value.clone()));
                    }
                }
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    fn index(&mut self, value: &Value<'a>, index: &Value<'a>) -> Result<Value<'a>, Fault> {
        let missing = |what: &'static str| Fault::from(fault::Kind::Missing(what.into()));
        match (value, index) {
            (Value::Null, _) => Err(missing("item of null")),
            (Value::Array(_) | Value::List(_), Value::Int(_) | Value::Uint(_)) => {
                let index = index.integer().and_then(|index| usize::try_from(index).ok());
                index.and_then(|index| value.item(index)).ok_or_else(|| missing("item at this index"))
            }
            (Value::Object(_) | Value::Map(_), key) => {
                self.entry(value, key)?.ok_or_else(|| missing("entry of this key"))
            }
            (value, index) => {
                let message =
                    format!("`[]` is not defined for {} and {}", value.type_name(), index.type_name());
                Err(Fault::failed(message))
            }
        }
    }

    fn binary(
        &mut self,
        operator: Operator,
        left: &Value<'a>,
        right: &Value<'a>,
    ) -> Result<Value<'a>, Fault> {
        let undefined = || {
            let (sign, left, right) = (operator.sign(), left.type_name(), right.type_name());
            Fault::failed(format!("`{sign}` is not defined for {left} and {right}"))
        };
        match operator {
            Operator::Equal => Ok(Value::Bool(self.equal(left, right)?)),
            Operator::NotEqual => Ok(Value::Bool(!self.equal(left, right)?)),
            Operator::Less | Operator::LessOrEqual | Operator::Greater | Operator::GreaterOrEqual => {
                let order = self.order(left, right)?;
                if order.is_none() && !(left.is_number() && right.is_number()) {
                    return Err(undefined());
                }
                Ok(Value::Bool(order.is_some_and(|order| match operator {
                    Operator::Less => order == Ordering::Less,
                    Operator::LessOrEqual => order != Ordering::Greater,
                    Operator::Greater => order == Ordering::Greater,
                    _ => order != Ordering::Less,
                })))
            }
            Operator::In => match right {
                Value::Array(_) | Value::List(_) => {
                    for index in 0..right.len().unwrap_or_default() {
                        let item = right.item(index).unwrap_or(Value::Null);
                        if self.equal(left, &item)? {
                            return Ok(Value::Bool(true));
                        }
                    }
                    Ok(Value::Bool(false))
                }
                Value::Object(_) | Value::Map(_) => Ok(Value::Bool(self.entry(right, left)?.is_some())),
                _ => Err(undefined()),
            },
            _ if left.is_number() && right.is_number() => arithmetic(operator, left, right),
            Operator::Add => self.add(left, right)?.ok_or_else(undefined),
            Operator::Subtract => match (left, right) {
                (Value::Timestamp(a), Value::Timestamp(b)) => Ok(Value::Duration(a.duration_since(*b))),
                (Value::Timestamp(a), Value::Duration(b)) => {
                    a.checked_sub(*b).map(Value::Timestamp).map_err(|_| overflow())
                }
                (Value::Duration(a), Value::Duration(b)) => {
                    a.checked_sub(*b).map(Value::Duration).ok_or_else(overflow)
                }
                _ => Err(undefined()),
            },
            _ => Err(undefined()),
        }
    }

    /// `+` of anything but two numbers; `None` if it is not defined.
    fn add(&mut self, left: &Value<'a>, right: &Value<'a>) -> Result<Option<Value<'a>>, Fault> {
        Ok(Some(match (left, right) {
            (Value::Text(a), Value::Text(b)) => {
                let (a, b) = (a.as_str(), b.as_str());
                self.steps.spend_bytes(a.len() + b.len())?;
                Value::text([a, b].concat())
            }
            (Value::Timestamp(time), Value::Duration(duration))
            | (Value::Duration(duration), Value::Timestamp(time)) => {
                Value::Timestamp(time.checked_add(*duration).map_err(|_| overflow())?)
            }
            (Value::Duration(a), Value::Duration(b)) => {
                Value::Duration(a.checked_add(*b).ok_or_else(overflow)?)
            }
            (Value::Array(_) | Value::List(_), Value::Array(_) | Value::List(_)) => {
                // A step per item would be cheap for the memory that an item takes.
                let length = left.len().unwrap_or_default() + right.len().unwrap_or_default();
                self.steps.spend(length.saturating_mul(4))?;
                let items = [left, right].into_iter().filter_map(Value::items).flatten();
                Value::list(items.collect())?
            }
            _ => return Ok(None),
        }))
    }

    /// The order of two values; `None` if they have none.
    fn order(&mut self, left: &Value<'_>, right: &Value<'_>) -> Result<Option<Ordering>, Fault> {
        if let (Value::Text(a), Value::Text(b)) = (left, right) {
            self.steps.spend_bytes(a.as_str().len().min(b.as_str().len()))?;
        }
        Ok(left.compare(right))
    }

    /// Whether two values are equal. Values of different types are not, apart from numbers.
    fn equal(&mut self, left: &Value<'_>, right: &Value<'_>) -> Result<bool, Fault> {
        self.steps.spend(1)?;
        match (left, right) {
            (Value::Null, Value::Null) => Ok(true),
            (Value::Type(a), Value::Type(b)) => Ok(a == b),
            (Value::Array(_) | Value::List(_), Value::Array(_) | Value::List(_)) => {
                let length = left.len();
                if length != right.len() {
                    return Ok(false);
                }
                for index in 0..length.unwrap_or_default() {
                    let (Some(a), Some(b)) = (left.item(index), right.item(index)) else { return Ok(false) };
                    if !self.equal(&a, &b)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            (Value::Object(_) | Value::Map(_), Value::Object(_) | Value::Map(_)) => {
                if left.len() != right.len() {
                    return Ok(false);
                }
                self.steps.spend(left.len().unwrap_or_default())?;
                for (key, a) in left.entries().unwrap_or_default() {
                    match self.entry(right, &key)? {
                        Some(b) if self.equal(&a, &b)? => {}
                        _ => return Ok(false),
                    }
                }
                Ok(true)
            }
            _ => Ok(self.order(left, right)? == Some(Ordering::Equal)),
        }
    }

    /// Writes a value as JSON.
    pub(super) fn write(&mut self, value: &Value<'_>, json: &mut Vec<u8>) -> Result<(), Fault> {
        match value {
            Value::Null => self.write_json(&(), json),
            Value::Bool(bool) => self.write_json(bool, json),
            Value::Int(int) => self.write_json(int, json),
            Value::Uint(uint) => self.write_json(uint, json),
            Value::Double(double) if double.is_finite() => self.write_json(double, json),
            Value::Double(_) => Err(Fault::failed("the result has a number that JSON does not have")),
            Value::Text(text) => self.write_json(text.as_str(), json),
            Value::Timestamp(time) => self.write_json(&time.to_string(), json),
            Value::Duration(duration) => self.write_json(&seconds(*duration), json),
            Value::Array(items) => self.write_json(items, json),
            Value::Object(map) => self.write_json(map, json),
            Value::List(list) => {
                json.push(b'[');
                for (index, item) in list.items.iter().enumerate() {
                    json.extend((index > 0).then_some(b','));
                    self.write(item, json)?;
                }
                json.push(b']');
                Ok(())
            }
            Value::Map(map) => {
                json.push(b'{');
                for (index, (key, value)) in map.items.iter().enumerate() {
                    json.extend((index > 0).then_some(b','));
                    self.write_json(&key_text(key), json)?;
                    json.push(b':');
                    self.write(value, json)?;
                }
                json.push(b'}');
                Ok(())
            }
            Value::Type(_) => Err(Fault::failed("the result has a type, which JSON does not have")),
        }
    }

    fn write_json<T: Serialize + ?Sized>(&mut self, value: &T, json: &mut Vec<u8>) -> Result<(), Fault> {
        let before = json.len();
        serde_json::to_writer(&mut *json, value).map_err(|_| Fault::failed("the result is no JSON"))?;
        if json.len() > RESULT_BYTES {
            return Err(Fault::failed(format!("the result is larger than {} MiB", RESULT_BYTES >> 20)));
        }
        self.steps.spend(1)?;
        self.steps.spend_bytes(json.len() - before)
    }
}

/// The key of a map as JSON has it: a string.
fn key_text<'v>(key: &'v Value<'_>) -> Cow<'v, str> {
    match key {
        Value::Text(text) => text.as_str().into(),
        Value::Bool(bool) => bool.to_string().into(),
        key => key.integer().unwrap_or_default().to_string().into(),
    }
}

/// What an operator or macro finds that one operand decides, and errors do not until the end.
struct Decision {
    decisive: bool,
    fault: Option<Fault>,
}

impl Decision {
    fn new(decisive: bool) -> Self {
        Self { decisive, fault: None }
    }

    fn is_made_by(&mut self, found: Result<bool, Fault>) -> Result<bool, Fault> {
        match found {
            Ok(found) => Ok(found == self.decisive),
            Err(fault) if fault.is_final() => Err(fault),
            Err(fault) => {
                self.fault.get_or_insert(fault);
                Ok(false)
            }
        }
    }

    fn end(self) -> Result<bool, Fault> {
        self.fault.map_or(Ok(!self.decisive), Err)
    }
}

/// Two integers give an integer; with a double, both are doubles, as JSON has one kind of number.
fn arithmetic<'a>(operator: Operator, left: &Value<'a>, right: &Value<'a>) -> Result<Value<'a>, Fault> {
    if let (Some(a), Some(b)) = (left.integer(), right.integer()) {
        let result = match operator {
            Operator::Add => Some(a + b),
            Operator::Subtract => Some(a - b),
            Operator::Multiply => a.checked_mul(b),
            _ if b == 0 => return Err(Fault::failed("division by zero")),
            Operator::Divide => Some(a / b),
            _ => Some(a % b),
        };
        let result = result.ok_or_else(overflow)?;
        let are_uints = matches!((left, right), (Value::Uint(_), Value::Uint(_)));
        let fits = if are_uints {
            u64::try_from(result).map(Value::Uint)
        } else {
            i64::try_from(result).map(Value::Int)
        };
        return fits.map_err(|_| overflow());
    }
    let (a, b) = (left.double().unwrap_or(f64::NAN), right.double().unwrap_or(f64::NAN));
    match operator {
        Operator::Add => Ok(Value::Double(a + b)),
        Operator::Subtract => Ok(Value::Double(a - b)),
        Operator::Multiply => Ok(Value::Double(a * b)),
        Operator::Divide => Ok(Value::Double(a / b)),
        _ => Err(Fault::failed("`%` is not defined for double")),
    }
}

fn overflow() -> Fault {
    Fault::failed("the result is out of range")
}
