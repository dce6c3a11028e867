//! Reading a body as the payload that its provider documents.
//!
//! A required field that is missing or malformed is an error with its path. A malformed optional field counts as
//! absent, and its path is noted.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::body::kind;
use crate::value::{Value, shown};
use crate::{Unusable, body};

/// A body that breaks its provider's contract: `lista_parcelas[2].valor: expected a decimal, got a text of 3
/// characters`.
///
/// The text names the path, and the kind and length of the value. It quotes nothing of the body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ContractError {
    path: String,
    problem: String,
}

impl ContractError {
    /// A mistake found by a rule that is about more than one field.
    pub(crate) fn new(path: &str, problem: &str) -> Self {
        Self { path: path.to_owned(), problem: problem.to_owned() }
    }

    /// The path of the field, such as `lista_parcelas[2].valor`; empty for the whole body.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl From<Unusable> for ContractError {
    fn from(unusable: Unusable) -> Self {
        Self { path: String::new(), problem: unusable.to_string() }
    }
}

impl fmt::Display for ContractError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.is_empty() {
            true => f.write_str(&self.problem),
            false => write!(f, "{}: {}", self.path, self.problem),
        }
    }
}

/// The optional fields of a body that could not be read and count as absent. Bounded, and quotes nothing of the body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ignored {
    first: Vec<ContractError>,
    more: usize,
}

impl Ignored {
    /// How many fields are named; further ones are only counted.
    const LIMIT: usize = 10;

    /// The text for operators; `None` if every field was read.
    pub fn note(&self) -> Option<String> {
        (!self.first.is_empty()).then(|| self.to_string())
    }

    /// An optional field that is needed after all. The error says what is wrong with it, or that it is missing.
    pub fn needed<T>(&self, field: Option<T>, path: &str) -> Result<T, ContractError> {
        field.ok_or_else(|| self.absence(path))
    }

    /// Why a field that is needed after all has no value.
    pub fn absence(&self, path: &str) -> ContractError {
        let ignored = self.first.iter().find(|ignored| ignored.path == path);
        ignored.cloned().unwrap_or_else(|| ContractError::new(path, "missing"))
    }

    fn push(&mut self, ignored: ContractError) {
        match self.first.len() < Self::LIMIT {
            true => self.first.push(ignored),
            false => self.more += 1,
        }
    }
}

impl fmt::Display for Ignored {
    /// `data.date: expected a date …; data.user: expected an object, got an array; and 2 more`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, ignored) in self.first.iter().enumerate() {
            write!(f, "{}{ignored}", if index == 0 { "" } else { "; " })?;
        }
        match self.more {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

/// A body as its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed<T> {
    /// The payload.
    pub payload: T,
    /// The fields that could not be read.
    pub ignored: Ignored,
}

/// A value that is read from the fields of one JSON object. Other fields are ignored.
pub trait Payload: Sized {
    /// Reads the fields.
    fn read(object: &Object<'_>) -> Result<Self, ContractError>;
}

/// Reads an event's data as a payload, with the content type that the event has. The same leniency as at receipt: see
/// [`Provider::read`](crate::Provider::read).
pub fn parse<T: Payload>(data: &[u8], content_type: &str) -> Result<Parsed<T>, ContractError> {
    let json = body::json(data, Some(content_type))?;
    let ignored = RefCell::default();
    let payload =
        T::read(&Object { fields: json.fields().into_owned(), path: String::new(), ignored: &ignored })?;
    Ok(Parsed { payload, ignored: ignored.into_inner() })
}

/// The fields of one JSON object, and where in the body it is.
pub struct Object<'a> {
    fields: Vec<(Cow<'a, str>, &'a str)>,
    path: String,
    ignored: &'a RefCell<Ignored>,
}

impl<'a> Object<'a> {
    /// A required value.
    pub(crate) fn required<T: Value>(&self, name: &str) -> Result<T, ContractError> {
        T::read(self.present(name)?).map_err(|problem| self.error(name, problem))
    }

    /// An optional value that matters if present: a malformed one is an error.
    pub(crate) fn checked<T: Value>(&self, name: &str) -> Result<Option<T>, ContractError> {
        match self.field(name)?.filter(|json| !T::is_absent(json)) {
            Some(json) => T::read(json).map(Some).map_err(|problem| self.error(name, problem)),
            None => Ok(None),
        }
    }

    /// An optional value: a malformed one counts as absent, and is noted.
    pub(crate) fn optional<T: Value>(&self, name: &str) -> Option<T> {
        self.checked(name).unwrap_or_else(|ignored| self.ignore(ignored))
    }

    /// Every optional value whose name begins so, by its name.
    pub(crate) fn optional_beginning_with<T: Value>(&self, beginning: &str) -> BTreeMap<String, T> {
        let names: BTreeSet<&str> = self.fields.iter().map(|(name, _)| name.as_ref()).collect();
        let names = names.into_iter().filter(|name| name.starts_with(beginning));
        names.filter_map(|name| Some((name.to_owned(), self.optional(name)?))).collect()
    }

    /// A required object.
    pub(crate) fn part<T: Payload>(&self, name: &str) -> Result<T, ContractError> {
        self.read(self.path(name), self.present(name)?)
    }

    /// An optional object that matters if present: a malformed one is an error.
    pub(crate) fn checked_part<T: Payload>(&self, name: &str) -> Result<Option<T>, ContractError> {
        match self.field(name)? {
            None | Some("null" | r#""""#) => Ok(None),
            Some(json) => self.read(self.path(name), json).map(Some),
        }
    }

    /// An optional object: a malformed one counts as absent, and is noted.
    pub(crate) fn optional_part<T: Payload>(&self, name: &str) -> Option<T> {
        self.checked_part(name).unwrap_or_else(|ignored| self.ignore(ignored))
    }

    /// A required list of objects. A list of one may be the object itself, and a list may be an object whose names are
    /// numbers, as PHP writes an array with a gap.
    pub(crate) fn list<T: Payload>(&self, name: &str) -> Result<Vec<T>, ContractError> {
        let (path, json) = (self.path(name), self.present(name)?);
        if let Some(items) = body::items(json) {
            let items = items.into_iter().enumerate();
            return items.map(|(index, item)| self.read(format!("{path}[{index}]"), item)).collect();
        }
        if kind(json) != "an object" {
            return Err(self.error(name, format!("expected an array, got {}", shown(json))));
        }
        let Some(items) = body::numbered(json) else { return Ok(vec![self.read(path, json)?]) };
        let items = items.into_iter().enumerate();
        items.map(|(index, item)| self.read(format!("{path}[{index}]"), item)).collect()
    }

    /// A list of objects that need not be there: a missing one is empty. What cannot be read of it is an error.
    pub(crate) fn optional_list<T: Payload>(&self, name: &str) -> Result<Vec<T>, ContractError> {
        match self.field(name)? {
            // PHP's functions return false for nothing.
            None | Some("null" | r#""""# | "false") => Ok(Vec::new()),
            Some(_) => self.list(name),
        }
    }

    /// An object's payload. PHP writes an empty object as `[]`; an array with items is none.
    fn read<T: Payload>(&self, path: String, json: &'a str) -> Result<T, ContractError> {
        let is_empty_array = || body::items(json).is_some_and(|items| items.is_empty());
        if kind(json) != "an object" && !is_empty_array() {
            return Err(ContractError { path, problem: format!("expected an object, got {}", shown(json)) });
        }
        T::read(&Object { fields: body::entries(json), path, ignored: self.ignored })
    }

    fn present(&self, name: &str) -> Result<&'a str, ContractError> {
        self.field(name)?.ok_or_else(|| self.error(name, "missing"))
    }

    fn field(&self, name: &str) -> Result<Option<&'a str>, ContractError> {
        let mut found = self.fields.iter().filter(|(field, _)| field == name).map(|(_, json)| *json);
        match (found.next(), found.next()) {
            (_, Some(_)) => Err(self.error(name, "there twice")),
            (first, None) => Ok(first),
        }
    }

    fn ignore<T>(&self, ignored: ContractError) -> Option<T> {
        self.ignored.borrow_mut().push(ignored);
        None
    }

    fn error(&self, name: &str, problem: impl ToString) -> ContractError {
        ContractError { path: self.path(name), problem: problem.to_string() }
    }

    fn path(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::{Centavos, Personal};

    #[derive(Debug, PartialEq)]
    struct Account {
        owner: Option<Personal>,
        lines: Vec<Line>,
        best: Option<Line>,
    }

    impl Payload for Account {
        fn read(object: &Object<'_>) -> Result<Self, ContractError> {
            Ok(Self {
                owner: object.optional("owner"),
                lines: object.list("lines")?,
                best: object.optional_part("best"),
            })
        }
    }

    #[derive(Debug, PartialEq)]
    struct Line {
        amount: Centavos,
        paid: Option<Centavos>,
    }

    impl Payload for Line {
        fn read(object: &Object<'_>) -> Result<Self, ContractError> {
            Ok(Self { amount: object.required("amount")?, paid: object.optional("paid") })
        }
    }

    fn account(body: &str) -> Result<(Account, String), String> {
        parse::<Account>(body.as_bytes(), "application/json")
            .map(|parsed| (parsed.payload, parsed.ignored.to_string()))
            .map_err(|error| error.to_string())
    }

    fn lines(amounts: &[i64]) -> Vec<Line> {
        amounts.iter().map(|amount| Line { amount: Centavos(*amount), paid: None }).collect()
    }

    #[test]
    fn the_text_of_a_number_survives_and_unknown_fields_are_passed_over() {
        let body = r#"{"owner": "Maria", "new": [1], "lines": [{"amount": 460.20, "paid": null, "x": 1e999}],
                       "new": 2}"#;
        let (account, ignored) = account(body).unwrap();
        assert_eq!(account.lines, lines(&[46020]));
        assert_eq!((account.owner.unwrap().expose(), ignored.as_str()), ("Maria", ""));
    }

    #[test]
    fn a_broken_contract_is_named_by_its_path_and_quotes_nobody() {
        let check = |body: &str, expect: &str| assert_eq!(account(body).unwrap_err(), expect);
        check(
            r#"{"lines": [{"amount": 1}, {"amount": "abc"}]}"#,
            "lines[1].amount: expected a decimal, got a text of 3 characters",
        );
        check(r#"{"lines": [{}]}"#, "lines[0].amount: missing");
        check(r#"{"lines": [{"amount": 1, "amount": 2}]}"#, "lines[0].amount: there twice");
        check("{}", "lines: missing");
        check(
            r#"{"lines": "Maria, expected a surprise"}"#,
            "lines: expected an array, got a text of 26 characters",
        );
        check(r#"{"lines": null}"#, "lines: expected an array, got null");
        check(r#"{"lines": ["Maria"]}"#, "lines[0]: expected an object, got a text of 5 characters");
        check(r#"{"lines": [true]}"#, "lines[0]: expected an object, got a boolean");
        check(r#"{"lines": [[1]]}"#, "lines[0]: expected an object, got an array");
        check(r#"{"lines": [[]]}"#, "lines[0].amount: missing");
        check(r#""Maria""#, "the body: expected an object, got a string; send one JSON object");
        check(
            r#"{"lines": []} x"#,
            "the body is not JSON: trailing characters at line 1, column 15; send one whole JSON object",
        );
    }

    #[test]
    fn an_optional_field_that_cannot_be_read_is_absent_and_noted_without_its_value() {
        let check = |body: &str, expect: &str| {
            let (account, ignored) = account(body).unwrap();
            assert_eq!((account.owner, account.best, ignored.as_str()), (None, None, expect), "{body}");
        };
        let none = r#"{"lines": [], "owner": null, "best": null}"#;
        check(none, "");
        check(r#"{"lines": [], "owner": "", "best": ""}"#, "");
        check(
            r#"{"lines": [{"amount": 1, "paid": "Maria"}], "owner": {"name": "Maria"}}"#,
            "owner: expected text, got an object; lines[0].paid: expected a decimal, got a text of 5 characters",
        );
        check(r#"{"lines": [], "owner": "a", "owner": "b"}"#, "owner: there twice");
        check(
            r#"{"lines": [], "best": {"amount": "Maria"}}"#,
            "best.amount: expected a decimal, got a text of 5 characters",
        );
        check(r#"{"lines": [], "best": [{"amount": 1}]}"#, "best: expected an object, got an array");
        check(r#"{"lines": [], "best": []}"#, "best.amount: missing");
        let many = [r#"{"amount": 1, "paid": []}"#; 12].join(",");
        let (_, ignored) = account(&format!(r#"{{"lines": [{many}]}}"#)).unwrap();
        assert!(
            ignored.ends_with("lines[9].paid: expected a decimal, got an array; and 2 more"),
            "{ignored}"
        );
    }

    #[test]
    fn a_list_of_one_and_a_list_with_a_gap_are_lists() {
        let check = |json: &str, expect: &[i64]| {
            assert_eq!(account(&format!(r#"{{"lines": {json}}}"#)).unwrap().0.lines, lines(expect), "{json}");
        };
        check("[]", &[]);
        check("{}", &[]);
        check(r#"{"amount": 1}"#, &[100]);
        check(r#"{"1": {"amount": 1}}"#, &[100]);
        check(r#"{"0": {"amount": 1}, "12": {"amount": 2}}"#, &[100, 200]);
        let error = account(r#"{"lines": {"7": {"amount": 1}, "9": []}}"#).unwrap_err();
        assert_eq!(error, "lines[1].amount: missing");
        for name in ["52998224725", "1234567", ""] {
            let error = account(&format!(r#"{{"lines": {{"{name}": {{"amount": 1}}}}}}"#)).unwrap_err();
            assert_eq!(error, "lines.amount: missing", "{name}");
        }
        let error = account(r#"{"lines": {"7": {"amount": 1}, "x": 1}}"#).unwrap_err();
        assert_eq!(error, "lines.amount: missing");
    }

    #[test]
    fn a_body_is_read_again_as_it_was_at_receipt() {
        let check = |body: &[u8], content_type: &str, expect: &str| {
            let owner = parse::<Account>(body, content_type).unwrap().payload.owner.unwrap();
            assert_eq!(owner.expose(), expect, "{body:x?}");
        };
        check(b"{\"lines\": [], // none\n \"owner\": \"Ana\",}", "", "Ana");
        check(b"\xef\xbb\xbf{\"lines\": [], \"owner\": \"Ana\"}", "", "Ana");
        check(b"{\"lines\": [], \"owner\": \"Jo\xe3o\"}", "text/plain", "João");
        check(b"{\"lines\": [], \"owner\": \"\xa4\"}", "application/json; charset=iso-8859-15", "€");
        check(br#"{"lines": [], "owner": "Ana \ud83d", "\udc00": 1}"#, "", "Ana \u{fffd}");
        check(br#"{"lines": [], "owner": "A\u0000na", "x\u0000": 1}"#, "", "Ana");
    }
}
