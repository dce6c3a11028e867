//! Texts with places that an item fills: `{/id}` is what is at that pointer in the item, `{url}` the address that it came from.
//!
//! Every other brace is text, so that JSON can be written as it is.

use std::str::FromStr;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use providers::Item;
use providers::generic::Pointer;
use serde::Deserialize;

/// A text with places.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Pointer(Pointer),
    Url,
}

/// Why a text is no template.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the place that begins with {0:?} has no end: write {{/pointer}}")]
pub struct NotATemplate(String);

/// An item has nothing at a place that can be written there.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an item has no text or number at {0}, or one that an address cannot have")]
pub(crate) struct Missing(String);

/// How what fills a place is written there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// Percent-encoded, for URLs and forms.
    Percent,
    /// With the escapes of JSON strings.
    Json,
    /// As it is.
    Plain,
}

impl Encoding {
    /// That of a body of this type.
    pub(crate) fn for_body(content_type: &str) -> Self {
        let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match media_type.as_str() {
            "application/x-www-form-urlencoded" => Self::Percent,
            json if json.ends_with("json") => Self::Json,
            _ => Self::Plain,
        }
    }

    fn write(self, text: &str) -> String {
        match self {
            Self::Percent => utf8_percent_encode(text, NON_ALPHANUMERIC).to_string(),
            Self::Json => {
                let quoted = serde_json::Value::from(text).to_string();
                quoted[1..quoted.len() - 1].to_owned()
            }
            Self::Plain => text.to_owned(),
        }
    }
}

impl FromStr for Template {
    type Err = NotATemplate;

    fn from_str(mut rest: &str) -> Result<Self, NotATemplate> {
        let (mut parts, mut text) = (Vec::new(), String::new());
        while let Some(at) = rest.find('{') {
            let (before, place) = rest.split_at(at);
            text += before;
            let (part, length) = if place.starts_with("{url}") {
                (Part::Url, "{url}".len())
            } else if place.starts_with("{/") {
                let not_one = || NotATemplate(place.chars().take(20).collect());
                let end = place.find('}').ok_or_else(not_one)?;
                let pointer = Pointer::try_from(place[1..end].to_owned()).map_err(|_| not_one())?;
                (Part::Pointer(pointer), end + 1)
            } else {
                text.push('{');
                rest = &place[1..];
                continue;
            };
            parts.extend(Some(std::mem::take(&mut text)).filter(|text| !text.is_empty()).map(Part::Text));
            parts.push(part);
            rest = &place[length..];
        }
        text += rest;
        parts.extend(Some(text).filter(|text| !text.is_empty()).map(Part::Text));
        Ok(Self(parts))
    }
}

impl TryFrom<String> for Template {
    type Error = NotATemplate;

    fn try_from(text: String) -> Result<Self, NotATemplate> {
        text.parse()
    }
}

impl Template {
    /// The text for an item that came from this address, which is written as it is where the text is itself an address.
    pub(crate) fn fill(&self, item: &Item, url: &str, encoding: Encoding) -> Result<String, Missing> {
        let mut text = String::new();
        for (index, part) in self.0.iter().enumerate() {
            match part {
                Part::Text(literal) => text += literal,
                Part::Url if index == 0 && encoding == Encoding::Percent => text += url,
                Part::Url => text += &encoding.write(url),
                Part::Pointer(pointer) => {
                    // Dots alone are a way up, however they are encoded.
                    let is_way = |value: &str| {
                        encoding == Encoding::Percent && value.chars().all(|letter| letter == '.')
                    };
                    let value = item.text_at(pointer).filter(|value| !is_way(value));
                    let value = value.ok_or_else(|| Missing(pointer.clone().into()))?;
                    text += &encoding.write(&value);
                }
            }
        }
        Ok(text)
    }

    /// The address with the same letter for every value: where it leads, whatever an item has.
    pub(crate) fn without_values(&self, url: &str) -> String {
        let written = |(index, part): (usize, &Part)| match part {
            Part::Text(literal) => literal.clone(),
            Part::Url if index == 0 => url.to_owned(),
            Part::Url | Part::Pointer(_) => "x".to_owned(),
        };
        self.0.iter().enumerate().map(written).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(template: &str, encoding: Encoding, expect: Result<&str, &str>) {
        let answer = br#"[{"id": 7, "a": {"b": "x\"y/ z"}, "none": null}]"#;
        let items = providers::items(answer, None, None).unwrap();
        let filled = template.parse::<Template>().unwrap().fill(&items[0], "https://h/p", encoding);
        let filled = filled.map_err(|missing| missing.to_string());
        assert_eq!(filled.as_deref().map_err(String::as_str), expect, "{template}");
    }

    #[test]
    fn what_is_at_a_pointer_is_written_as_the_place_needs_it() {
        check(
            r#"{"id": {/id}, "x": {"y": "{/a/b}"}}"#,
            Encoding::Json,
            Ok(r#"{"id": 7, "x": {"y": "x\"y/ z"}}"#),
        );
        check("id={/id}&b={/a/b}", Encoding::Percent, Ok("id=7&b=x%22y%2F%20z"));
        check("{/a/b}", Encoding::Plain, Ok("x\"y/ z"));
        check("", Encoding::Plain, Ok(""));
        check(
            "{/none}",
            Encoding::Json,
            Err("an item has no text or number at /none, or one that an address cannot have"),
        );
    }

    #[test]
    fn the_address_of_the_item_is_whole_at_the_begin_of_an_address_and_a_value_elsewhere() {
        check("{url}/{/id}/read", Encoding::Percent, Ok("https://h/p/7/read"));
        check("https://a/?of={url}", Encoding::Percent, Ok("https://a/?of=https%3A%2F%2Fh%2Fp"));
    }

    #[test]
    fn an_item_does_not_choose_where_an_address_leads() {
        let answer = br#"[{"next": ".evil.example", "up": "..", "none": ""}]"#;
        let items = providers::items(answer, None, None).unwrap();
        let template: Template = "https://api.example{/next}/read".parse().unwrap();
        assert_eq!(template.without_values("https://h/p"), "https://api.examplex/read");
        let filled = template.fill(&items[0], "https://h/p", Encoding::Percent).unwrap();
        let address: outbound::Address = filled.parse().unwrap();
        assert_ne!(address.origin(), "https://api.examplex");
        for place in ["/up", "/none"] {
            let template: Template = format!("{{url}}/{{{place}}}/read").parse().unwrap();
            assert!(template.fill(&items[0], "https://h/p", Encoding::Percent).is_err(), "{place}");
        }
    }

    #[test]
    fn a_place_without_an_end_is_refused() {
        let refused = r#"{"id": {/id"#.parse::<Template>().unwrap_err().to_string();
        assert_eq!(refused, r#"the place that begins with "{/id" has no end: write {/pointer}"#);
        check("{id}", Encoding::Json, Ok("{id}"));
    }
}
