//! Filters and transforms of subscriptions: any text, over any event.

use serde_json::Value;
use subscriptions::{EvaluationError, Expression, Input};

/// Between the expression and the event of an input.
const SEPARATOR: char = '\0';

const EVENT: &str = r#"{"event": {"type": "order.created", "subject": "order/7", "time": "2026-03-01T01:30:15Z"},
    "data": {"total": 120.5, "count": 3, "none": null, "name": "Jo\u00e3o of nowhere", "big": 18446744073709551615,
    "items": [{"sku": "A", "price": 10}, {"sku": "B", "price": 20.5}, [], {}], "flags": [true, false]}}"#;

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    [
        "event.type == 'order.created' && data.total > 100 || !has(data.none)",
        "data.items.exists(item, item.sku == 'A') && data.items.all(i, i.price >= -1.5e3)",
        "data.items.filter(i, has(i.price)).map(i, i.price > 1, {'p': i.price * 2, 'q': [i.sku, null]})",
        "{'a': event.subject, 'b': data['name'].lowerAscii(), 'n': size(data.items), 3: data.`none`}",
        "[[data.items]].map(x, x + x).map(x, x + x).map(x, [x, x]) == [[[]]]",
        "data.name + data.name.replace('o', data.name) in [data.name.substring(1, 3), r'\\n', '\\u00e7']",
        "event.time - timestamp('2026-02-28T22:00:00-03:00') > duration('1h30m') ? 1 / data.count : 7u % 2u",
        "event.time.getHours('America/Sao_Paulo') + int('7') - int(data.total) == -9223372036854775808",
        "data.count in {'a': 1} || 'count' in data && data.items[0].sku.startsWith('A') // comment",
        "data.flags.exists_one(f, f) && string(data.big).split('1').join('-').contains('8')",
        "((((-(-1))))) + [1, 2][0] == 0x1F",
    ]
    .map(|text| format!("{text}{SEPARATOR}{EVENT}").into_bytes())
    .into()
}

/// A text that is no expression has a place; one that is has the same value twice, which is JSON, and no error quotes the
/// event.
pub(crate) fn run(input: &[u8]) {
    let Ok(input) = std::str::from_utf8(input) else { return };
    let (text, json) = input.split_once(SEPARATOR).unwrap_or((input, EVENT));
    let expression = match Expression::transform(text) {
        Ok(expression) => expression,
        Err(error) => {
            assert_eq!(Expression::filter(text).expect_err("it is no expression"), error);
            assert!(!error.message.is_empty(), "{text:?}");
            let line = text.split('\n').nth(error.line - 1).expect("an error is on a line of the text");
            assert!((1..=1 + line.chars().count()).contains(&error.column), "{text:?}: {error}");
            return;
        }
    };
    let mut event: Value = serde_json::from_str(json).unwrap_or_default();
    let mut take = |name: &str| event.get_mut(name).map(Value::take).unwrap_or_default();
    let input = Input { event: take("event"), data: take("data") };
    let applied = expression.apply(&input);
    assert_eq!(expression.apply(&input), applied, "{text:?} has two values");
    match &applied {
        Ok(json) => drop(serde_json::from_slice::<Value>(json).expect("the result is JSON")),
        Err(error) => {
            for string in
                strings(&input.data).into_iter().filter(|string| string.len() > 12 && !text.contains(*string))
            {
                assert!(!error.to_string().contains(string), "{text:?}: {error}");
            }
        }
    }
    let Ok(filter) = Expression::filter(text) else { return };
    match (filter.matches(&input), applied) {
        (Ok(matches), Ok(json)) => assert_eq!(json, matches.to_string(), "{text:?}"),
        (Ok(matches), Err(error)) => {
            assert!(!matches && matches!(error, EvaluationError::Missing { .. }), "{text:?}: {error}");
        }
        (Err(EvaluationError::Failed { .. } | EvaluationError::TooCostly), _) => {}
        (Err(error @ EvaluationError::Missing { .. }), _) => panic!("{text:?}: {error}"),
    }
}

/// Every string of a value.
fn strings(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(items) => items.iter().flat_map(strings).collect(),
        Value::Object(fields) => fields.values().flat_map(strings).collect(),
        _ => Vec::new(),
    }
}
