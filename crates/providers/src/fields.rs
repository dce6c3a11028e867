//! Topics and subjects in the fields of a JSON object.

use std::borrow::Cow;
use std::fmt;

use event::{Subject, Topic};

use crate::body::kind;
use crate::scan;
use crate::unusable::{Problem, Unusable};
use crate::value::{Id, Value};

/// The topic in the JSON text of its field.
pub(crate) fn topic(place: &str, json: Option<&str>) -> Result<Topic, Unusable> {
    let json = json.ok_or_else(|| Problem::TopicMissing { place: place.to_owned() })?;
    match scan::string(json) {
        Some(text) => topic_from(place, text),
        None => Err(Problem::TopicType { place: place.to_owned(), got: kind(json) }.into()),
    }
}

/// The topic of a text. A replacement character stands for what was lost, and is in no name that anyone meant.
pub(crate) fn topic_from(place: &str, text: impl AsRef<str>) -> Result<Topic, Unusable> {
    if text.as_ref().contains(char::REPLACEMENT_CHARACTER) {
        let got = "one that is no Unicode text";
        return Err(Problem::TopicType { place: place.to_owned(), got }.into());
    }
    Topic::new(text).map_err(|rule| Problem::TopicName { place: place.to_owned(), rule }.into())
}

/// The fields of a JSON object: name and JSON text.
pub(crate) type Fields<'a> = [(Cow<'a, str>, &'a str)];

/// The fields of the root object that a contract reads; `null` is the same as absent, and one that is there twice is an
/// error.
pub(crate) fn root<'a, const N: usize>(
    fields: &Fields<'a>,
    names: [&str; N],
) -> Result<[Option<&'a str>; N], Unusable> {
    let mut found = [None; N];
    for (name, json) in fields {
        let Some(index) = names.iter().position(|wanted| wanted == name) else { continue };
        if found[index].replace(*json).is_some() {
            return Err(Problem::Duplicate { place: names[index].to_owned() }.into());
        }
    }
    Ok(found.map(|value| value.filter(|json| *json != "null")))
}

/// The subject of an entity with the id in a JSON text, which is at this place: a string or a number. Anything else, the
/// empty text too, is no subject; a text that cannot be an identifier is an error.
pub(crate) fn subject(
    entity: &str,
    place: impl fmt::Display,
    json: Option<&str>,
) -> Result<Option<Subject>, Unusable> {
    let Some(json) =
        json.filter(|json| matches!(kind(json), "a string" | "a number") && !Id::is_absent(json))
    else {
        return Ok(None);
    };
    match Id::read(json) {
        Ok(id) => Ok(Some(Subject::new(entity, id.as_str()))),
        Err(problem) => Err(Problem::Id { place: place.to_string(), problem }.into()),
    }
}
