//! Settings from the environment: `MALOTE__SECTION__KEY`.
//!
//! Text stays text; where the default is a number, a flag or a list, the variable is read as one. A value that starts
//! with `[` or `{` is read as TOML. A number in the name is an index: `MALOTE__SOURCES__0__PROVIDER`.

use serde_json::Value;

const PREFIX: &str = "MALOTE__";

/// The variables that are settings: the path of each and its value.
pub fn settings(
    variables: impl IntoIterator<Item = (String, String)>,
    default: &Value,
) -> Vec<(String, config::Value)> {
    let mut settings: Vec<_> = variables
        .into_iter()
        .filter_map(|(name, text)| {
            let parts: Vec<String> =
                name.strip_prefix(PREFIX)?.split("__").map(str::to_ascii_lowercase).collect();
            let pointer: String = parts.iter().map(|part| format!("/{part}")).collect();
            Some((expression(&parts), value(&text, default.pointer(&pointer))))
        })
        .collect();
    // A shorter path first: a whole list does not undo an element of it.
    settings.sort_by_key(|(path, _)| path.len());
    settings
}

/// `sources`, `0`, `auth` as `sources[0].auth`.
fn expression(parts: &[String]) -> String {
    let mut path = String::new();
    for part in parts {
        match part.parse::<usize>() {
            Ok(index) if !path.is_empty() => path += &format!("[{index}]"),
            _ if path.is_empty() => path += part,
            _ => path += &format!(".{part}"),
        }
    }
    path
}

fn value(text: &str, default: Option<&Value>) -> config::Value {
    let plain = || config::Value::from(text);
    if text.starts_with(['[', '{'])
        && let Some(value) = toml(text)
    {
        return value;
    }
    match default {
        Some(Value::Number(_)) => text.parse::<i64>().map_or_else(|_| plain(), config::Value::from),
        Some(Value::Bool(_)) => text.parse::<bool>().map_or_else(|_| plain(), config::Value::from),
        Some(Value::Array(_)) => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            config::Value::from(items.map(str::to_owned).collect::<Vec<_>>())
        }
        _ => plain(),
    }
}

fn toml(text: &str) -> Option<config::Value> {
    let table = format!("value = {text}");
    let file = config::File::from_str(&table, config::FileFormat::Toml);
    config::Config::builder().add_source(file).build().ok()?.get("value").ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_variable_is_read_as_its_default_is() {
        let default = json!({"broker": {"prefix": ""}, "store": {"max_connections": 8}, "ingress": {"trusted_proxies": []}});
        let check = |name: &str, text: &str, expect: (&str, Value)| {
            let found = settings([(name.to_owned(), text.to_owned())], &default);
            let [(path, value)] = &found[..] else { panic!("{found:?}") };
            let value: Value = value.clone().try_deserialize().unwrap();
            assert_eq!((path.as_str(), value), expect);
        };
        check("MALOTE__BROKER__PREFIX", "12", ("broker.prefix", json!("12")));
        check("MALOTE__STORE__MAX_CONNECTIONS", "12", ("store.max_connections", json!(12)));
        check("MALOTE__STORE__MAX_CONNECTIONS", "many", ("store.max_connections", json!("many")));
        check(
            "MALOTE__INGRESS__TRUSTED_PROXIES",
            "10.0.0.0/8, ::1",
            ("ingress.trusted_proxies", json!(["10.0.0.0/8", "::1"])),
        );
        check("MALOTE__INGRESS__TRUSTED_PROXIES", "[\"::1\"]", ("ingress.trusted_proxies", json!(["::1"])));
        check(
            "MALOTE__SOURCES__0__AUTH__BEARER",
            "{ secrets = [\"x\"] }",
            ("sources[0].auth.bearer", json!({"secrets": ["x"]})),
        );
        assert!(settings([("MALOTE_TOKEN".to_owned(), "x".to_owned())], &default).is_empty());
    }
}
