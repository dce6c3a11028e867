//! What the API of a sender answers when it is asked for what it has not delivered yet: a list, whose items are what it would
//! have posted.
//!
//! As lenient as with a posted body: the character set is detected, JSON that is not strict is repaired, and a list may be
//! written as PHP writes an array with a gap.

use bytes::Bytes;

use crate::body::{self, kind};
use crate::generic::Pointer;
use crate::unusable::Unusable;
use crate::value::scalar;

/// The API of a provider that lists what was not delivered yet. The same configuration serves every source of the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Polling {
    /// The paths that are asked, one after the other.
    pub paths: &'static [&'static str],
    /// The body of the request that acknowledges an item, a template; it is posted to the path that the item came from.
    pub acknowledge: &'static str,
}

/// One item of a list: a body as the sender would have posted it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item(Bytes);

/// Why an answer has no list. Quotes nothing of it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoItems {
    /// It cannot be read.
    #[error("the answer cannot be used")]
    Unusable(#[source] Unusable),
    /// Nothing is where the list should be.
    #[error("the answer has nothing at {0}; set poll.items to the place of the list")]
    Missing(String),
    /// Something else is there.
    #[error("expected an array at {place}, got {got}; set poll.items to the place of the list")]
    NotAList {
        /// Where.
        place: String,
        /// What.
        got: &'static str,
    },
}

impl Item {
    /// The body.
    pub fn body(&self) -> &Bytes {
        &self.0
    }

    /// The text, number or flag at a place in it.
    pub fn text_at(&self, pointer: &Pointer) -> Option<String> {
        scalar(body::at(std::str::from_utf8(&self.0).ok()?, pointer.tokens())?)
    }
}

/// The items of an answer: of the array that is the whole answer, or at this place in it.
pub fn items(answer: &[u8], content_type: Option<&str>, at: Option<&Pointer>) -> Result<Vec<Item>, NoItems> {
    if answer.trim_ascii().is_empty() {
        return Ok(Vec::new());
    }
    let text = body::any(answer, content_type).map_err(NoItems::Unusable)?.text;
    let list = match at {
        None => text.as_ref(),
        Some(at) => body::at(&text, at.tokens()).ok_or_else(|| NoItems::Missing(String::from(at.clone())))?,
    };
    let items = match kind(list) {
        "an array" => body::items(list),
        "an object" => body::numbered(list),
        // PHP's functions return false for nothing.
        _ => matches!(list.trim(), "null" | "false" | r#""""#).then(Vec::new),
    };
    let place = || at.map_or_else(|| "the top".to_owned(), |at| String::from(at.clone()));
    let items = items.ok_or_else(|| NoItems::NotAList { place: place(), got: kind(list) })?;
    Ok(items.into_iter().map(|item| Item(Bytes::copy_from_slice(item.trim().as_bytes()))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(answer: &str, at: Option<&str>) -> Result<Vec<String>, String> {
        let at = at.map(|at| Pointer::try_from(at.to_owned()).unwrap());
        let items = items(answer.as_bytes(), Some("application/json"), at.as_ref());
        let text = |item: &Item| String::from_utf8(item.body().to_vec()).unwrap();
        items.map(|items| items.iter().map(text).collect()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_items_are_where_the_pointer_leads_and_each_keeps_its_bytes() {
        let check = |answer: &str, at: Option<&str>, expect: &[&str]| {
            assert_eq!(
                read(answer, at),
                Ok(expect.iter().map(|item| (*item).to_owned()).collect()),
                "{answer}"
            );
        };
        check(r#"[{"id" : 1.50}, {"id":2}]"#, None, &[r#"{"id" : 1.50}"#, r#"{"id":2}"#]);
        check(r#"{"data": {"rows": [{"id": 1}]}}"#, Some("/data/rows"), &[r#"{"id": 1}"#]);
        check(r#"{"0": {"id": 1}, "2": {"id": 2}}"#, None, &[r#"{"id": 1}"#, r#"{"id": 2}"#]);
        check("[{\"id\": 1}, // one\n]", None, &[r#"{"id": 1}"#]);
        for nothing in ["", " \n", "[]", "null", "false", "{}"] {
            check(nothing, None, &[]);
        }
        check(r#"{"rows": ""}"#, Some("/rows"), &[]);
    }

    #[test]
    fn an_answer_without_a_list_says_where_one_was_expected_and_quotes_nothing() {
        let check = |answer: &str, at: Option<&str>, expect: &str| {
            let error = read(answer, at).unwrap_err();
            assert!(error.starts_with(expect) && !error.contains("Maria"), "{error}");
        };
        check(r#"{"error": "Maria"}"#, None, "expected an array at the top, got an object");
        check(r#"{"rows": "Maria"}"#, Some("/rows"), "expected an array at /rows, got a string");
        check(r#"{"Maria": 1}"#, Some("/rows"), "the answer has nothing at /rows");
        check("<html>Maria", None, "the answer cannot be used");
    }

    #[test]
    fn an_item_gives_single_values() {
        let item = Item(Bytes::from_static(br#"{"id": 7.0, "a": {"b": "x/y"}, "c": null, "d": []}"#));
        let at = |pointer: &str| item.text_at(&Pointer::try_from(pointer.to_owned()).unwrap());
        assert_eq!((at("/id").as_deref(), at("/a/b").as_deref()), (Some("7"), Some("x/y")));
        assert_eq!((at("/c"), at("/d"), at("/e")), (None, None, None));
    }
}
