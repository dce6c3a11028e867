//! XML as the JSON that pointers and expressions read: an element is a field, its attributes are fields that begin with `@`,
//! several elements of one name are an array, and an element with nothing but text is a string. Namespace prefixes are left
//! out; of attributes that differ in nothing else, such as `type` and `xsi:type`, the one without a prefix counts, else the first.
//!
//! Nothing outside of the document is read: a document type is refused, and only the entities of XML itself are known.

use std::collections::HashSet;

use quick_xml::Reader;
use quick_xml::escape::unescape;
use quick_xml::events::{BytesStart, Event};
use serde_json::map::Entry;
use serde_json::{Map, Value};

use crate::scan::DEPTH_LIMIT;
use crate::unusable::{Problem, Unusable};

/// The most elements and attributes of a document: what they become takes far more memory than their text.
const PARTS_LIMIT: usize = 20_000;

/// An element that is being read.
struct Element {
    name: String,
    fields: Map<String, Value>,
    text: String,
}

impl Element {
    fn open(start: &BytesStart<'_>) -> Option<Self> {
        let mut fields = Map::new();
        let mut attributes = start.attributes();
        // Its own check for repeated names compares each with all others.
        attributes.with_checks(false);
        let mut seen = HashSet::new();
        for (index, attribute) in attributes.enumerate() {
            let attribute = attribute.ok().filter(|_| index < PARTS_LIMIT)?;
            let name = attribute.key.local_name().into_inner().to_owned();
            // The declaration of a namespace says nothing.
            if attribute.key.as_namespace_binding().is_none() {
                let value = Value::from(unescape(&attribute.value).ok()?.into_owned());
                if !seen.insert(attribute.key.into_inner()) {
                    return None;
                }
                let place = fields.entry(format!("@{name}"));
                match (attribute.key.prefix(), place) {
                    (_, Entry::Vacant(place)) => drop(place.insert(value)),
                    (None, Entry::Occupied(mut place)) => drop(place.insert(value)),
                    (Some(_), Entry::Occupied(_)) => {}
                }
            }
        }
        Some(Self { name: start.local_name().into_inner().to_owned(), fields, text: String::new() })
    }

    fn value(self) -> Value {
        let text = self.text.trim();
        if self.fields.is_empty() {
            return text.into();
        }
        let mut fields = self.fields;
        if !text.is_empty() {
            fields.insert("#text".to_owned(), text.into());
        }
        fields.into()
    }

    /// Takes a child in. The second of a name makes an array of both.
    fn add(&mut self, name: String, value: Value) {
        match self.fields.get_mut(&name) {
            None => drop(self.fields.insert(name, value)),
            Some(Value::Array(items)) => items.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
}

/// The value of a document: an object with the root element.
pub(crate) fn value(text: &str) -> Result<Value, Unusable> {
    let mut reader = Reader::from_str(text);
    let mut open: Vec<Element> = Vec::new();
    let mut root = None;
    let mut parts = 0;
    loop {
        let offset = reader.buffer_position();
        let wrong = |problem| Unusable::from(Problem::NotXml { problem, offset });
        let closed =
            match reader.read_event().map_err(|_| wrong("a tag is malformed or has no counterpart"))? {
                Event::Start(start) => {
                    if root.is_some() || open.len() == DEPTH_LIMIT {
                        return Err(wrong(
                            "an element after the root element, or more than 128 inside each other",
                        ));
                    }
                    open.push(Element::open(&start).ok_or_else(|| wrong("an attribute is malformed"))?);
                    None
                }
                Event::Empty(start) => {
                    Some(Element::open(&start).ok_or_else(|| wrong("an attribute is malformed"))?)
                }
                Event::End(_) => open.pop(),
                Event::Text(text) => {
                    match open.last_mut() {
                        Some(element) => element.text.push_str(&text),
                        None if text.trim().is_empty() => {}
                        None => return Err(wrong("text outside of the root element")),
                    }
                    None
                }
                Event::CData(text) => {
                    open.last_mut()
                        .ok_or_else(|| wrong("text outside of the root element"))?
                        .text
                        .push_str(&text);
                    None
                }
                Event::GeneralRef(reference) => {
                    let unknown = || wrong("a reference to an entity that XML does not have");
                    let text = unescape(&format!("&{};", &*reference)).map_err(|_| unknown())?.into_owned();
                    open.last_mut().ok_or_else(unknown)?.text.push_str(&text);
                    None
                }
                Event::DocType(_) => return Err(wrong("a document type, which is not read")),
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) => None,
                Event::Eof => break,
            };
        let Some(element) = closed else { continue };
        parts += 1 + element.fields.keys().filter(|name| name.starts_with('@')).count();
        if parts > PARTS_LIMIT {
            return Err(wrong("more than 20000 elements and attributes"));
        }
        let name = element.name.clone();
        match open.last_mut() {
            Some(parent) => parent.add(name, element.value()),
            None if root.is_none() => root = Some(Value::Object(Map::from_iter([(name, element.value())]))),
            None => return Err(wrong("an element after the root element")),
        }
    }
    let offset = reader.buffer_position();
    match root {
        Some(root) if open.is_empty() => Ok(root),
        _ => {
            Err(Problem::NotXml { problem: "the document ends before its root element does", offset }.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn elements_attributes_and_text_are_found_under_their_names() {
        let text = r#"<?xml version="1.0" encoding="UTF-8"?>
            <!-- authorised -->
            <nfe:nfeProc xmlns:nfe="http://www.portalfiscal.inf.br/nfe" versao="4.00">
              <nfe:NFe Id='NFe35&amp;1'><xNome>A &lt;&#38; B</xNome><vazio/></nfe:NFe>
              <det nItem="1"><![CDATA[<x>]]></det>
              <det nItem="2"/>
              <det>3</det>
            </nfe:nfeProc>"#;
        let expect = json!({"nfeProc": {
            "@versao": "4.00",
            "NFe": {"@Id": "NFe35&1", "xNome": "A <& B", "vazio": ""},
            "det": [{"@nItem": "1", "#text": "<x>"}, {"@nItem": "2"}, "3"],
        }});
        assert_eq!(value(text).unwrap(), expect);
    }

    #[test]
    fn of_attributes_that_differ_in_their_prefix_the_one_without_counts() {
        let check = |attributes: &str, expect: &str| {
            assert_eq!(value(&format!("<a {attributes}/>")).unwrap(), json!({"a": {"@type": expect}}));
        };
        check("xsi:type='x' type='y'", "y");
        check("type='y' xsi:type='x'", "y");
        check("a:type='x' b:type='z'", "x");
        assert!(value("<a xsi:type='x' xsi:type='x'/>").is_err());
    }

    #[test]
    fn what_is_no_document_is_refused_with_its_place_and_nothing_is_expanded() {
        for (text, expect) in [
            ("", "the document ends before"),
            ("{}", "text outside of the root element at byte 0"),
            ("<a><b></a>", "a tag is malformed or has no counterpart at byte 6"),
            ("<a>", "the document ends before its root element does at byte 3"),
            ("<a/><b/>", "an element after the root element"),
            ("<a x=1/>", "an attribute is malformed"),
            ("<a x='1' x='2'/>", "an attribute is malformed"),
            ("<a>&x;</a>", "a reference to an entity that XML does not have"),
            (
                "<!DOCTYPE a [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><a>&x;</a>",
                "a document type, which is not read",
            ),
        ] {
            let error = value(text).unwrap_err().to_string();
            assert!(error.contains(expect), "{text}: {error}");
        }
        let wide = |count: usize| format!("<a>{}</a>", "<b/>".repeat(count));
        assert!(value(&wide(PARTS_LIMIT - 1)).is_ok() && value(&wide(PARTS_LIMIT)).is_err());
        let nested = |levels: usize| format!("{}{}", "<a>".repeat(levels), "</a>".repeat(levels));
        assert!(value(&nested(DEPTH_LIMIT)).is_ok() && value(&nested(DEPTH_LIMIT + 1)).is_err());
    }
}
