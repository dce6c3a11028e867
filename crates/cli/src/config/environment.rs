//! Settings from the environment: `MALOTE__SECTION__KEY`.
//!
//! Text stays text; where the default is a number, a flag or a list, the variable is read as one. A value that starts
//! with `[` or `{` is read as TOML. A number in the name is an index: `MALOTE__SOURCES__0__PROVIDER`.

use serde_json::Value;

use super::Mistake;

const PREFIX: &str = "MALOTE__";

/// A variable that is a setting.
#[derive(Debug)]
pub struct Setting {
    /// The variable's name.
    pub variable: String,
    /// The setting's path.
    pub path: String,
    /// What it is set to.
    pub value: config::Value,
}

/// The variables that are settings, and those that were meant to be: their mistakes.
pub fn settings(
    variables: impl IntoIterator<Item = (String, String)>,
    default: &Value,
) -> (Vec<Setting>, Vec<Mistake>) {
    let known = names("", default);
    let (mut settings, mut mistakes) = (Vec::new(), Vec::new());
    let mut mistake = |path, message| mistakes.push(Mistake { path, message });
    for (variable, text) in variables {
        if let Some(rest) = variable.strip_prefix(PREFIX) {
            let parts: Vec<String> = rest.split("__").map(str::to_ascii_lowercase).collect();
            if !parts.iter().all(|part| is_key(part)) {
                mistake(variable, "names no setting; expected a name such as MALOTE__BROKER__URL".to_owned());
                continue;
            }
            let pointer: String = parts.iter().map(|part| format!("/{part}")).collect();
            let value = value(&text, default.pointer(&pointer));
            settings.push(Setting { variable, path: expression(&parts), value });
        } else if let Some(rest) = variable.strip_prefix("MALOTE_") {
            // Other variables of this prefix belong to others: only what was surely meant is reported.
            let meant = known.iter().find(|name| name.replace("__", "_") == rest.replace("__", "_"));
            if let Some(meant) = meant {
                mistake(variable, format!("is not read; did you mean {PREFIX}{meant}?"));
            }
        }
    }
    // A shorter path first: a whole list does not undo an element of it.
    settings.sort_by_key(|setting| setting.path.len());
    (settings, mistakes)
}

/// The names, without the prefix, of the settings in this part of the defaults.
fn names(before: &str, default: &Value) -> Vec<String> {
    let Value::Object(table) = default else { return vec![before.to_owned()] };
    let name = |key: &String| match before {
        "" => key.to_ascii_uppercase(),
        before => format!("{before}__{}", key.to_ascii_uppercase()),
    };
    table.iter().flat_map(|(key, value)| names(&name(key), value)).collect()
}

fn is_key(part: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let is_index = part.bytes().all(|byte| byte.is_ascii_digit());
    !part.is_empty()
        && part.chars().all(is_plain)
        && (is_index || !part.starts_with(|c: char| c.is_ascii_digit() || c == '-'))
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
            let (found, mistakes) = settings([(name.to_owned(), text.to_owned())], &default);
            assert!(mistakes.is_empty(), "{mistakes:?}");
            let [Setting { path, value, .. }] = &found[..] else { panic!("{found:?}") };
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
    }

    #[test]
    fn a_variable_that_was_meant_to_be_a_setting_is_a_mistake() {
        let default = json!({"broker": {"url": "embedded", "confirm_timeout_ms": 1}});
        let shown = |name: &str| {
            let (found, mistakes) = settings([(name.to_owned(), "x".to_owned())], &default);
            assert!(found.is_empty(), "{found:?}");
            mistakes.into_iter().map(|mistake| (mistake.path, mistake.message)).collect::<Vec<_>>()
        };
        let check = |name: &str, expect: &str| {
            let shown = shown(name);
            let [(path, message)] = &shown[..] else { panic!("{name}: {shown:?}") };
            assert!(path == name && message.contains(expect), "{shown:?}");
        };
        check("MALOTE_BROKER_URL", "did you mean MALOTE__BROKER__URL?");
        check("MALOTE_BROKER__CONFIRM_TIMEOUT_MS", "did you mean MALOTE__BROKER__CONFIRM_TIMEOUT_MS?");
        check("MALOTE__BROKER__", "such as MALOTE__BROKER__URL");
        check("MALOTE__BROKER__1[", "such as MALOTE__BROKER__URL");
        for other in ["MALOTE_TOKEN", "MALOTE_API", "MALOTE_CONFIG", "MALOTE_SUBJECT_KEY", "MALOTE_TEST_BIN"]
        {
            assert_eq!(shown(other), [], "{other}");
        }
    }
}
