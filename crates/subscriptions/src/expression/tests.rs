//! What expressions mean, where they are wrong, and how much they may take.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use super::evaluate::RESULT_BYTES;
use super::fault::STEPS;
use super::*;

fn input() -> Input {
    Input {
        event: json!({
            "id": "0190b0a0-0000-7000-8000-000000000001",
            "type": "order.created",
            "source": "/mercado-eletronico/me-1",
            "provider": "mercado-eletronico",
            "subject": "order/7",
            "time": "2026-03-01T01:30:15.25Z",
        }),
        data: json!({
            "total": 120.5, "count": 3, "big": 18_446_744_073_709_551_615_u64, "whole": 10.0,
            "state": "paid", "none": null, "name": "João", "content-type": "x", "flags": [true, false],
            "items": [{"sku": "A", "price": 10}, {"sku": "B", "price": 20.5}, {"sku": "C"}],
            "tags": ["new", "urgent"], "nested": {"a": {"b": 1}},
        }),
    }
}

/// The value as JSON, or the error.
fn value(text: &str) -> String {
    match Expression::transform(text).map_err(|error| error.to_string()) {
        Ok(expression) => match expression.apply(&input()) {
            Ok(json) => String::from_utf8(json.to_vec()).unwrap(),
            Err(error) => error.to_string(),
        },
        Err(error) => error,
    }
}

fn check(cases: &[(&str, &str)]) {
    for (text, expect) in cases {
        assert_eq!(value(text), *expect, "{text}");
    }
}

fn all_true(cases: &[&str]) {
    for text in cases {
        assert_eq!(value(text), "true", "{text}");
        assert_eq!(Expression::filter(text).unwrap().matches(&input()), Ok(true), "{text}");
    }
}

#[test]
fn literals_are_read_as_the_specification_writes_them() {
    check(&[
        ("[1, -1, 0x1F, 7u, 0x7u, 1.5, .5, 1e3, -2.5E-1]", "[1,-1,31,7,7,1.5,0.5,1000.0,-0.25]"),
        ("-9223372036854775808", "-9223372036854775808"),
        (
            r#"['a', "b", '''c'd''', """e"f""", r'\n', 'it\'s', '\x41\u00e7\U0001F600\101\t']"#,
            r#"["a","b","c'd","e\"f","\\n","it's","Aç😀A\t"]"#,
        ),
        ("[true, false, null] // a comment", "[true,false,null]"),
        ("{'a': 1, 2: 'b', true: [], 3u: {},}", r#"{"a":1,"2":"b","true":[],"3":{}}"#),
    ]);
}

#[test]
fn operators_bind_and_compare_as_the_specification_says() {
    all_true(&[
        "1 + 2 * 3 == 7 && (1 + 2) * 3 == 9",
        "7 / 2 == 3 && 7 % 4 == 3 && -7 / 2 == -3 && 7.0 / 2.0 == 3.5",
        "!false && !!true && -(-1) == 1",
        "true || false && false",
        "1 < 2 && 2 <= 2 && 3 > 2 && 3 >= 3 && 1 != 2",
        "1 == 1.0 && 1u == 1 && 1.5 > 1 && 2u > 1.5 && -1 < 0u",
        "9007199254740993 > 9007199254740992.0 && 9007199254740992 == 9007199254740992.0",
        "'a' < 'b' && 'a' + 'b' == 'ab' && [1] + [2] == [1, 2]",
        "1 != '1' && null != false && [] != {} && null == null",
        "{'a': [1, {'b': 2}]} == {'a': [1.0, {'b': 2u}]}",
        "2 in [1, 2] && !('x' in ['y']) && 'a' in {'a': 1} && 'state' in data && 'new' in data.tags",
        "data.count in [1, 3] && data.state in ['paid', 'open']",
        "false ? data.missing : true",
        "(false ? 'a' : true ? 'b' : 'c') == 'b'",
    ]);
    check(&[
        ("1 + 'a'", "line 1, column 3: `+` is not defined for int and string"),
        ("null < 1", "line 1, column 6: `<` is not defined for null_type and int"),
        ("1 / 0", "line 1, column 3: division by zero"),
        ("1 % 0", "line 1, column 3: division by zero"),
        ("9223372036854775807 + 1", "line 1, column 21: the result is out of range"),
        ("9223372036854775807 * 9223372036854775807", "line 1, column 21: the result is out of range"),
        ("18446744073709551615u * 18446744073709551615u", "line 1, column 23: the result is out of range"),
        ("0u - 1u", "line 1, column 4: the result is out of range"),
        ("-9223372036854775808 / -1", "line 1, column 22: the result is out of range"),
        ("1.0 / 0.0", "line 1, column 5: the result has a number that JSON does not have"),
        ("{'a': 1, 'a': 2}", "line 1, column 10: the map has a key twice"),
        ("{1.5: 1}", "line 1, column 2: double cannot be the key of a map"),
    ]);
}

#[test]
fn an_event_and_its_data_are_read_with_the_types_of_json() {
    all_true(&[
        "event.type == 'order.created' && event['provider'] == 'mercado-eletronico'",
        "data.total > 100 && data.total * 2 == 241.0 && data.whole == 10",
        "type(data.count) == int && type(data.total) == double && type(data.big) == uint",
        "type(data.none) == null_type && type(data.tags) == list && type(data.nested) == map",
        "data.nested.a.b == 1 && data['nested']['a']['b'] == 1 && data.items[1].sku == 'B'",
        "data.`content-type` == 'x' && has(data.`content-type`)",
        "has(data.state) && !has(data.other) && !has(data.none.other) && !has(event.traceparent)",
        "event.time > timestamp('2026-02-28T22:00:00-03:00') && event.time < timestamp('2026-03-02T00:00:00Z')",
        "event.time.getFullYear() == 2026 && event.time.getMonth() == 2 && event.time.getDate() == 1",
        "event.time.getHours() == 1 && event.time.getMinutes() == 30 && event.time.getMilliseconds() == 250",
        "event.time.getDate('America/Sao_Paulo') == 28 && event.time.getDayOfMonth('America/Sao_Paulo') == 27",
        "event.time.getDayOfWeek() == 0 && event.time.getDayOfYear() == 59",
        "event.time + duration('1h30m') - event.time == duration('90m')",
        "event.time - duration('15s') < event.time && duration('90m').getHours() == 1",
        "timestamp(0) + duration('1.5s') == timestamp('1970-01-01T00:00:01.5Z')",
    ]);
    check(&[
        ("event.time", r#""2026-03-01T01:30:15.25Z""#),
        ("[duration('90m'), duration('-1.5s')]", r#"["5400s","-1.5s"]"#),
        ("data.items[0]", r#"{"price":10,"sku":"A"}"#),
        (
            "{'id': event.id, 'total': data.total, 'first': data.tags[0]}",
            r#"{"id":"0190b0a0-0000-7000-8000-000000000001","total":120.5,"first":"new"}"#,
        ),
    ]);
}

#[test]
fn macros_visit_lists_and_the_keys_of_maps() {
    all_true(&[
        "data.items.exists(item, item.sku == 'B') && !data.items.exists(item, item.sku == 'D')",
        "data.items.all(item, has(item.sku)) && !data.items.all(item, item.sku == 'A')",
        "data.items.exists_one(item, item.sku == 'C') && data.tags.existsOne(tag, tag == 'new')",
        "data.nested.all(key, key == 'a') && [].all(x, false) && ![].exists(x, true)",
        "[1, 2, 3].map(x, x * 2) == [2, 4, 6] && [1, 2, 3].filter(x, x > 1) == [2, 3]",
        "[1, 2, 3].map(x, x > 1, x * x) == [4, 9]",
        "[1, 2].all(x, [3, 4].all(y, x < y && [x].all(x, x < y)))",
        "[[1, 2], [3]].exists(list, list.exists(x, x == 3))",
        // An item that decides does so whatever the errors of others are.
        "data.items.exists(item, item.price == 20.5)",
        "!data.items.all(item, item.price > 15)",
        "[1, 'a', 2].exists(x, x > 1)",
    ]);
    check(&[
        ("data.items.map(item, item.sku)", r#"["A","B","C"]"#),
        ("data.items.filter(item, has(item.price)).map(i, i.price)", "[10,20.5]"),
        ("data.items.all(item, item.price > 1)", "line 1, column 27: there is no field \"price\""),
        ("data.state.all(x, true)", "line 1, column 12: a loop visits a list or a map, not string"),
        ("data.tags.exists(x, x)", "line 1, column 21: expected true or false, got string"),
    ]);
}

#[test]
fn functions_convert_and_test() {
    all_true(&[
        "size('João') == 4 && 'João'.size() == 4 && size([1, 2]) == 2 && data.items.size() == 3 && size(data) > 5",
        "data.name.startsWith('Jo') && data.name.endsWith('o') && data.name.contains('ã')",
        "int('7') == 7 && int(7.9) == 7 && int(7u) == 7 && int(timestamp('1970-01-01T00:00:05Z')) == 5",
        "uint(7) == 7u && double('1.5') == 1.5 && double(3) == 3.0 && string(1.5) == '1.5' && string(7) == '7'",
        "bool('true') && !bool('false') && string(true) == 'true' && dyn(1) == 1",
        "' a '.trim() == 'a' && 'aB'.lowerAscii() == 'ab' && 'aB'.upperAscii() == 'AB'",
        "'a,b'.split(',') == ['a', 'b'] && ['a', 'b'].join('-') == 'a-b' && ['a', 'b'].join() == 'ab'",
        "'banana'.replace('an', 'o') == 'booa' && 'João'.substring(2) == 'ão' && 'João'.substring(1, 3) == 'oã'",
        "'João'.indexOf('o') == 1 && 'João'.indexOf('x') == -1",
    ]);
    check(&[
        ("int('x')", "line 1, column 1: the value does not fit into an int"),
        ("int(1e30)", "line 1, column 1: the value does not fit into an int"),
        ("uint(-1)", "line 1, column 1: the value does not fit into a uint"),
        ("size(1)", "line 1, column 1: size() is not defined for int"),
        ("'a'.substring(2)", "line 1, column 5: substring() is out of the range of its string"),
        (
            "event.time.getHours('Nowhere')",
            "line 1, column 12: unknown time zone: expected a name of the IANA database, such as America/Sao_Paulo",
        ),
        (
            "timestamp('yesterday')",
            "line 1, column 1: the value is no time: expected RFC 3339, such as 2026-01-31T10:00:00-03:00",
        ),
        ("type(1)", "line 1, column 1: the result has a type, which JSON does not have"),
    ]);
}

#[test]
fn a_mistake_is_found_when_compiling_with_its_place() {
    check(&[
        ("", "line 1, column 1: expected a value, found the end"),
        ("data.total >", "line 1, column 13: expected a value, found the end"),
        ("data.total > 1 data", "line 1, column 16: expected an operator or the end, found `data`"),
        ("data.total >\n  é", "line 2, column 3: unexpected character 'é'"),
        ("'João' == dat.name", "line 1, column 11: unknown name \"dat\": did you mean data?"),
        ("amount > 1", "line 1, column 1: unknown name \"amount\": a field of the body is data.amount"),
        ("event.typ == 'x'", "line 1, column 7: an event has no attribute \"typ\": did you mean type?"),
        ("data.a = 1", "line 1, column 8: `=` is no operator: write `==` to compare"),
        ("'abc", "line 1, column 1: the string does not end: ' is missing"),
        (r"'\q'", "line 1, column 2: unknown escape sequence"),
        ("b'a'", "line 1, column 1: bytes are not supported"),
        ("99999999999999999999", "line 1, column 1: the number is malformed, or does not fit into 64 bits"),
        (
            "9223372036854775808",
            "line 1, column 1: the number does not fit into an int: write it as a uint, with a u",
        ),
        (
            "data.name.matches('a+')",
            "line 1, column 11: there are no regular expressions: use startsWith(), endsWith(), contains() or `in`",
        ),
        (
            "data.name.startWith('a')",
            "line 1, column 11: unknown function \"startWith\"; did you mean startsWith?",
        ),
        ("contains('a', 'b')", "line 1, column 1: contains is a method: write x.contains()"),
        ("data.a.int()", "line 1, column 8: int is no method: write int(x)"),
        ("size(1, 2)", "line 1, column 1: size() takes 1 argument, not 2"),
        ("'a'.substring()", "line 1, column 5: substring() takes 1 or 2 arguments, not 0"),
        (
            "has(data)",
            "line 1, column 5: has() takes a field, such as data.customer; a name with other characters is in backticks: \
          data.`customer-id`",
        ),
        ("data.a.map(1, 2)", "line 1, column 12: expected the name of a variable, found a number"),
        ("data.a.all(event, true)", "line 1, column 12: `event` cannot be the name of a variable"),
        ("[1].map(x, x) + x", "line 1, column 17: unknown name \"x\": a field of the body is data.x"),
        ("for", "line 1, column 1: `for` is a reserved word"),
        ("int{}", "line 1, column 4: messages are not supported: write a map, such as {\"id\": event.id}"),
        ("(1", "line 1, column 3: expected `)`, found the end"),
        ("data.true", "line 1, column 6: expected the name of a field or method, found `true`"),
    ]);
    for (text, found) in
        [("1", "a number"), ("data.a + 1", "arithmetic"), ("'x'", "a string"), ("[true]", "a list")]
    {
        let error = Expression::filter(text).unwrap_err();
        assert_eq!(error.message, format!("a filter is true or false, and this is {found}"), "{text}");
    }
    let long = " ".repeat(TEXT_BYTES + 1);
    assert_eq!(value(&long), "line 1, column 1: the expression is longer than 16 KiB");
}

#[test]
fn an_event_without_the_field_does_not_match_and_every_other_error_is_one() {
    let matches = |text: &str| Expression::filter(text).unwrap().matches(&input());
    for text in ["data.missing == 1", "data.none.x == 1", "data.items[9].sku == 'A'", "data['missing'] > 1"] {
        assert_eq!(matches(text), Ok(false), "{text}");
    }
    assert_eq!(matches("!(data.missing == 1)"), Ok(false));
    assert_eq!(matches("!has(data.missing) || data.missing == 1"), Ok(true));
    for text in ["data.state > 1", "data.state.x == 1", "data.count / 0 == 1", "data.state"] {
        assert!(matches!(matches(text), Err(EvaluationError::Failed { .. })), "{text}");
    }
    // A transform without the field is an error.
    let error = Expression::transform("{'a': data.missing}").unwrap().apply(&input()).unwrap_err();
    assert_eq!(error.to_string(), "line 1, column 12: there is no field \"missing\"");
}

#[test]
fn no_error_quotes_the_event() {
    let input = Input { event: json!({}), data: json!({"cpf": "52998224725", "52998224725": 1}) };
    for text in [
        "int(data.cpf + 'x')",
        "timestamp(data.cpf)",
        "data.cpf.x",
        "data.cpf > 1",
        "data[data.cpf + '1']",
        "duration(data.cpf)",
        "bool(data.cpf)",
        "timestamp(0).getHours(data.cpf)",
        "[data.cpf][7]",
        "data.cpf && true",
    ] {
        let error = Expression::transform(text).unwrap().apply(&input).unwrap_err();
        assert!(!format!("{error:?} {error}").contains("52998224725"), "{text}: {error}");
    }
}

/// How long any evaluation takes at most: tests are not optimised, and other tests run beside them.
const PATIENCE: Duration = Duration::from_secs(5);

fn within_patience<T>(text: &str, run: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = run();
    let taken = start.elapsed();
    let shown: String = text.chars().take(60).collect();
    assert!(taken < PATIENCE, "{shown} took {taken:?}");
    result
}

#[test]
fn a_hostile_expression_ends_within_its_steps() {
    let numbers: Json = (0..200_000).collect::<Vec<_>>().into();
    let word = "x".repeat(1 << 20);
    let input = Input { event: json!({}), data: json!({"list": numbers, "same": numbers, "word": word}) };
    let doubled = |levels: usize| {
        let mut text = "[data.word]".to_owned();
        (0..levels).for_each(|level| write!(text, ".map(x{level}, x{level} + x{level})").unwrap());
        text
    };
    let listed = |levels: usize| {
        let mut text = "[data.list]".to_owned();
        (0..levels).for_each(|level| write!(text, ".map(x{level}, x{level} + x{level})").unwrap());
        text
    };
    let nested = "data.list.all(a, data.list.all(b, data.list.all(c, a + b + c >= 0)))".to_owned();
    let compared = "data.list.all(a, data.list == data.same)".to_owned();
    let searched = "data.list.exists(a, -1 in data.list)".to_owned();
    let built = "data.list.map(a, data.list.map(b, a))".to_owned();
    let replaced = "data.word.replace('', data.word)".to_owned();
    let scanned = "data.list.all(a, data.word.contains('y') || size(data.word) > 0)".to_owned();
    let split = "data.list.map(a, data.word.split('x'))".to_owned();
    let absorbed = "data.list.exists(a, data.list.exists(b, data.list.exists(c, c.x == 1)))".to_owned();
    let zones = "data.list.all(a, timestamp(a).getHours('America/Sao_Paulo') >= 0)".to_owned();
    for text in [
        doubled(30),
        listed(30),
        nested,
        compared,
        searched,
        built,
        replaced,
        scanned,
        split,
        absorbed,
        zones,
    ] {
        let expression = Expression::transform(&text).unwrap();
        let result = within_patience(&text, || expression.apply(&input));
        assert_eq!(result, Err(EvaluationError::TooCostly), "{text}");
    }
}

#[test]
fn a_result_that_is_small_in_memory_and_large_in_json_is_refused() {
    // Each level has the one before it twice: shared in memory, not in JSON.
    let mut text = "[['0123456789abcdef']]".to_owned();
    (0..40).for_each(|level| write!(text, ".map(x{level}, [x{level}, x{level}])").unwrap());
    let result = within_patience(&text, || Expression::transform(&text).unwrap().apply(&input()));
    assert!(result.is_err(), "{result:?}");
    let compared = format!("{text} == {text}");
    if let Ok(expression) = Expression::transform(&compared) {
        let result = within_patience(&compared, || expression.apply(&input()));
        assert_eq!(result, Err(EvaluationError::TooCostly));
    }
    let large = Input { event: json!({}), data: "x".repeat(RESULT_BYTES / 3).into() };
    let result = Expression::transform("[data, data, data, data]").unwrap().apply(&large);
    assert_eq!(result.unwrap_err().to_string(), "line 1, column 1: the result is larger than 4 MiB");
}

#[test]
fn one_pass_over_the_largest_body_is_within_the_steps() {
    let items: Vec<_> =
        (0..20_000).map(|number| json!({"sku": number, "price": 1.5, "name": "some article"})).collect();
    let input = Input { event: json!({}), data: json!({"items": items}) };
    assert!(serde_json::to_vec(&input.data).unwrap().len() > 900_000);
    let filter =
        Expression::filter("data.items.all(item, item.price > 1 && item.name.contains('article'))").unwrap();
    assert_eq!(filter.matches(&input), Ok(true));
    let transform =
        Expression::transform("{'items': data.items.map(i, {'sku': i.sku, 'price': i.price})}").unwrap();
    assert!(transform.apply(&input).unwrap().len() > 500_000);
}

#[test]
fn depth_neither_of_the_text_nor_of_the_event_overflows_the_stack() {
    let deep = |open: &str, middle: &str, close: &str, levels: usize| {
        format!("{}{middle}{}", open.repeat(levels), close.repeat(levels))
    };
    for text in [
        deep("(", "1", ")", 5_000),
        deep("[", "1", "]", 5_000),
        deep("{1:", "1", "}", 3_000),
        deep("!", "true", "", 10_000),
        deep("-", "data.a", "", 10_000),
        deep("size(", "data", ")", 2_000),
        deep("true ? 1 : ", "1", "", 1_000),
        deep("", "data", ".a", 7_000),
        deep("", "data", "[0]", 5_000),
        deep("", "1", "+1", 7_000),
        deep("", "data", ".map(x, x)", 1_500),
        deep("[1].map(x, ", "1", ")", 1_000),
    ] {
        let error = within_patience(&text, || Expression::transform(&text).unwrap_err());
        assert!(error.message.contains("nested more than 64 deep"), "{error}");
    }
    // Wide is not deep.
    for text in [deep("", "true", " && true", 1_000), deep("", "false", " || true", 1_000)] {
        assert_eq!(value(&text), "true");
    }
    // As deep as JSON that can be parsed is.
    let json = deep("[", "1", "]", 127);
    let input = Input { event: json!({}), data: serde_json::from_str(&json).unwrap() };
    let same = deep("[", "data", "]", 40);
    let result = Expression::transform(&same).unwrap().apply(&input).unwrap();
    assert_eq!(result, deep("[", "1", "]", 167));
    let equal = Expression::filter(&format!("{same} == {same}")).unwrap();
    assert_eq!(equal.matches(&input), Ok(true));
    // What loops nest.
    let mut text = "[1]".to_owned();
    (0..30).for_each(|level| write!(text, ".map(x{level}, [[[x{level}]]])").unwrap());
    let error = Expression::transform(&text).unwrap().apply(&input).unwrap_err();
    assert!(error.to_string().contains("the value is nested more than 64 deep"), "{error}");
}

#[test]
fn the_bound_of_an_evaluation_is_reached_exactly() {
    let input = Input { event: json!({}), data: (0..STEPS / 4).collect::<Vec<_>>().into() };
    let expression = Expression::transform("data.all(x, x >= 0)").unwrap();
    assert_eq!(expression.apply(&input), Err(EvaluationError::TooCostly));
    let half = Input { data: (0..STEPS / 8).collect::<Vec<_>>().into(), ..input };
    assert_eq!(expression.apply(&half).unwrap(), "true");
}
