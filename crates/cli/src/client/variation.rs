//! Variations of a documented example: the same body about something else.
//!
//! Works on the text, so that every other byte stays as documented.

/// The body with every id in it replaced by one that the number makes. The same number gives the same ids, so that
/// the examples of a provider stay about the same thing.
pub fn varied(body: &str, number: u64) -> String {
    let mut varied = String::with_capacity(body.len() + 64);
    let mut rest = body;
    while let Some(start) = rest.find('"') {
        let (before, token) = rest.split_at(start);
        let end = string_end(token);
        let (string, after) = token.split_at(end);
        varied += before;
        varied += string;
        rest = after;
        let Some(value) = after.trim_start().strip_prefix(':') else { continue };
        let value = value.trim_start();
        let key = string.trim_matches('"');
        if !is_id(key) {
            continue;
        }
        let length = match value.starts_with('"') {
            true => string_end(value),
            false => value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len()),
        };
        varied += &after[..after.len() - value.len()];
        varied += &other(key, &value[..length], number);
        rest = &value[length..];
    }
    varied + rest
}

/// Where the string ends that the text starts with, its quotes included.
fn string_end(text: &str) -> usize {
    let mut is_escaped = false;
    let inside = text.char_indices().skip(1).find(|(_, c)| {
        let ends = *c == '"' && !is_escaped;
        is_escaped = *c == '\\' && !is_escaped;
        ends
    });
    inside.map_or(text.len(), |(at, _)| at + 1)
}

fn is_id(key: &str) -> bool {
    matches!(key, "id" | "code" | "cpf") || key.starts_with("id_") || key.ends_with("Id")
}

fn other(key: &str, value: &str, number: u64) -> String {
    let text = value.trim_matches('"');
    let quoted = value.starts_with('"');
    let other = if text.is_empty() {
        String::new()
    } else if key == "cpf" {
        format!("{:011}", number % 100_000_000_000)
    } else if text.bytes().all(|byte| byte.is_ascii_digit()) {
        format!("{number}{text}")
    } else if text.len() == 36 && text.matches('-').count() == 4 {
        format!("{:08x}{}", number & 0xffff_ffff, &text[8..])
    } else {
        format!("{text}-{number}")
    };
    if quoted { format!("\"{other}\"") } else { other }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use providers::{Inbound, Provider, SubjectKey};

    use super::*;

    #[test]
    fn ids_change_and_nothing_else() {
        let check = |body: &str, expect: &str| assert_eq!(varied(body, 7), expect);
        check(r#"{"id": 88412, "nome": "id"}"#, r#"{"id": 788412, "nome": "id"}"#);
        check(r#"{"code" : "0000593098","status":1}"#, r#"{"code" : "70000593098","status":1}"#);
        check(
            r#"{"note": "say \"id\": 1", "orderId": null}"#,
            r#"{"note": "say \"id\": 1", "orderId": null}"#,
        );
        check(r#"{"cpf": "99999999999"}"#, r#"{"cpf": "00000000007"}"#);
        check(
            r#"{"utmId": "01407b89-b25d-4cac-a576-014158bb17a5"}"#,
            r#"{"utmId": "00000007-b25d-4cac-a576-014158bb17a5"}"#,
        );
    }

    #[test]
    fn every_documented_example_has_variations_about_something_else() {
        let key = SubjectKey::from_bytes([7; 32]);
        for provider in Provider::builtin() {
            for topic in provider.topics() {
                let Some(example) = topic.example else { continue };
                let read = |body: String| {
                    let body = Bytes::from(body);
                    provider.read(&Inbound { headers: &Default::default(), body: &body }, &key).unwrap()
                };
                let (original, other) = (read(example.to_owned()), read(varied(example, 4711)));
                assert_eq!(
                    (&original.topic, original.repaired),
                    (&other.topic, other.repaired),
                    "{}",
                    topic.name
                );
                if original.subject.is_some() {
                    assert_ne!(original.subject, other.subject, "{}", topic.name);
                }
            }
        }
    }
}
