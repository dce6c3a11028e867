//! Values as people read them.

use event::Timestamp;
use serde_json::Value;

use crate::Form;

/// A value in its form; what is missing is empty, where the form says nothing else.
pub fn written(form: Form, value: &Value) -> String {
    let plain = || match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match form {
        Form::Text | Form::Id | Form::Number | Form::State(_) => plain(),
        Form::Money if value.is_null() => "–".to_owned(),
        Form::Money => value.as_i64().map_or_else(plain, money),
        Form::Time => value.as_str().and_then(|text| text.parse().ok()).map_or_else(plain, time),
        Form::TaxId => tax_id(&plain()),
        Form::Flag => if value.as_bool() == Some(true) { "yes" } else { "" }.to_owned(),
        Form::Count => value.as_array().map_or_else(plain, |items| items.len().to_string()),
        Form::States(_) => value.as_object().map_or_else(plain, |states| {
            let each =
                states.iter().map(|(name, state)| format!("{name} {}", state.as_str().unwrap_or_default()));
            each.collect::<Vec<_>>().join(", ")
        }),
    }
}

/// `46020` as `460.20`.
fn money(centavos: i64) -> String {
    let (sign, absolute) = (if centavos < 0 { "-" } else { "" }, centavos.unsigned_abs());
    format!("{sign}{}.{:02}", absolute / 100, absolute % 100)
}

/// `2026-11-22 16:01:34Z`.
pub fn time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

fn tax_id(text: &str) -> String {
    let bare: Vec<char> = text.chars().filter(char::is_ascii_alphanumeric).collect();
    let part = |from: usize, to: usize| bare[from..to].iter().collect::<String>();
    match bare.len() {
        11 => format!("{}.{}.{}-{}", part(0, 3), part(3, 6), part(6, 9), part(9, 11)),
        14 => format!("{}.{}.{}/{}-{}", part(0, 2), part(2, 5), part(5, 8), part(8, 12), part(12, 14)),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_form_is_written_as_people_read_it() {
        let check = |form, value: Value, expect: &str| assert_eq!(written(form, &value), expect, "{value}");
        check(Form::Money, json!(46020), "460.20");
        check(Form::Money, json!(-5), "-0.05");
        check(Form::Money, Value::Null, "–");
        check(Form::Time, json!("2026-11-22T16:01:34.123456Z"), "2026-11-22 16:01:34Z");
        check(Form::TaxId, json!("52998224725"), "529.982.247-25");
        check(Form::TaxId, json!("12ABC34501DE35"), "12.ABC.345/01DE-35");
        check(Form::TaxId, json!("123"), "123");
        check(Form::Flag, json!(true), "yes");
        check(Form::Flag, json!(false), "");
        check(Form::Count, json!(["a", "b"]), "2");
        check(
            Form::States(&[]),
            json!({"invoices": "handled", "receivables": "dead"}),
            "invoices handled, receivables dead",
        );
    }
}
