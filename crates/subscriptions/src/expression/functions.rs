//! The functions and methods: those of CEL's standard library, and the common ones of its extension for strings.
//!
//! There is no `matches`: no engine for regular expressions is linked.

use event::{Timestamp, nearest};
use jiff::{SignedDuration, Zoned};

use super::fault::{Fault, Steps};
use super::value::Value;

/// A function that an expression can call.
pub(super) struct Function {
    pub(super) name: &'static str,
    form: Form,
    /// How many arguments it takes at least and at most; the receiver of a method counts.
    arguments: (usize, usize),
    run: Run,
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// How a function is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// `size(x)`
    Global,
    /// `x.trim()`
    Method,
    /// Both.
    Either,
}

/// What it takes to find a time zone.
const ZONE_STEPS: usize = 20;

/// `None` where the function is not defined for arguments of these types.
type Run = for<'a> fn(&mut Steps, &[Value<'a>]) -> Result<Option<Value<'a>>, Fault>;

/// Why a function cannot be called so.
pub(super) struct Misused(pub(super) String);

const fn global(name: &'static str, run: Run) -> Function {
    Function { name, form: Form::Global, arguments: (1, 1), run }
}

const fn method(name: &'static str, arguments: (usize, usize), run: Run) -> Function {
    Function { name, form: Form::Method, arguments, run }
}

static FUNCTIONS: [Function; 31] = [
    Function { name: "size", form: Form::Either, arguments: (1, 1), run: size },
    global("int", int),
    global("uint", uint),
    global("double", double),
    global("string", string),
    global("bool", bool),
    global("timestamp", timestamp),
    global("duration", duration),
    global("type", |_, arguments| Ok(Some(Value::Type(arguments[0].type_name())))),
    global("dyn", |_, arguments| Ok(Some(arguments[0].clone()))),
    method("contains", (2, 2), |steps, arguments| test(steps, arguments, |text, other| text.contains(other))),
    method("startsWith", (2, 2), |steps, arguments| {
        test(steps, arguments, |text, other| text.starts_with(other))
    }),
    method("endsWith", (2, 2), |steps, arguments| {
        test(steps, arguments, |text, other| text.ends_with(other))
    }),
    method("lowerAscii", (1, 1), |steps, arguments| convert(steps, arguments, str::to_ascii_lowercase)),
    method("upperAscii", (1, 1), |steps, arguments| convert(steps, arguments, str::to_ascii_uppercase)),
    method("trim", (1, 1), |steps, arguments| convert(steps, arguments, |text| text.trim().to_owned())),
    method("replace", (3, 3), replace),
    method("split", (2, 2), split),
    method("join", (1, 2), join),
    method("substring", (2, 3), substring),
    method("indexOf", (2, 2), index_of),
    method("getFullYear", (1, 2), |steps, arguments| date(steps, arguments, |time| i64::from(time.year()))),
    method("getMonth", (1, 2), |steps, arguments| date(steps, arguments, |time| i64::from(time.month()) - 1)),
    method("getDate", (1, 2), |steps, arguments| date(steps, arguments, |time| i64::from(time.day()))),
    method("getDayOfMonth", (1, 2), |steps, arguments| {
        date(steps, arguments, |time| i64::from(time.day()) - 1)
    }),
    method("getDayOfWeek", (1, 2), |steps, arguments| {
        date(steps, arguments, |time| i64::from(time.weekday().to_sunday_zero_offset()))
    }),
    method("getDayOfYear", (1, 2), |steps, arguments| {
        date(steps, arguments, |time| i64::from(time.day_of_year()) - 1)
    }),
    method("getHours", (1, 2), |steps, arguments| {
        time(steps, arguments, |time| i64::from(time.hour()), |duration| duration.as_secs() / 3600)
    }),
    method("getMinutes", (1, 2), |steps, arguments| {
        time(steps, arguments, |time| i64::from(time.minute()), |duration| duration.as_secs() / 60)
    }),
    method("getSeconds", (1, 2), |steps, arguments| {
        time(steps, arguments, |time| i64::from(time.second()), |duration| duration.as_secs())
    }),
    method("getMilliseconds", (1, 2), |steps, arguments| {
        time(
            steps,
            arguments,
            |time| i64::from(time.millisecond()),
            |duration| i64::from(duration.subsec_millis()),
        )
    }),
];

/// The function of a name, for a call of this form with so many arguments.
pub(super) fn find(name: &str, is_method: bool, arguments: usize) -> Result<&'static Function, Misused> {
    let fits =
        |function: &&Function| function.form == Form::Either || (function.form == Form::Method) == is_method;
    let named = |function: &&Function| function.name == name;
    let Some(function) = FUNCTIONS.iter().filter(fits).find(named) else {
        return Err(Misused(match FUNCTIONS.iter().find(named) {
            _ if name == "matches" => {
                "there are no regular expressions: use startsWith(), endsWith(), contains() or `in`"
                    .to_owned()
            }
            Some(_) if is_method => format!("{name} is no method: write {name}(x)"),
            Some(_) => format!("{name} is a method: write x.{name}()"),
            None => {
                let meant = nearest(name, FUNCTIONS.iter().map(|function| function.name));
                let hint = meant.map_or_else(String::new, |meant| format!("; did you mean {meant}?"));
                format!("unknown function {name:?}{hint}")
            }
        }));
    };
    let (least, most) = function.arguments;
    if (least..=most).contains(&arguments) {
        return Ok(function);
    }
    let receiver = usize::from(is_method);
    let (least, most) = (least - receiver, most - receiver);
    let expected = if least == most { least.to_string() } else { format!("{least} or {most}") };
    let plural = if most == 1 { "" } else { "s" };
    Err(Misused(format!("{name}() takes {expected} argument{plural}, not {}", arguments - receiver)))
}

impl Function {
    pub(super) fn call<'a>(&self, steps: &mut Steps, arguments: &[Value<'a>]) -> Result<Value<'a>, Fault> {
        (self.run)(steps, arguments)?.ok_or_else(|| {
            let types: Vec<_> = arguments.iter().map(Value::type_name).collect();
            Fault::failed(format!("{}() is not defined for {}", self.name, types.join(" and ")))
        })
    }
}

/// The text of a value, whose length is spent.
fn text<'v>(steps: &mut Steps, value: &'v Value<'_>) -> Result<Option<&'v str>, Fault> {
    let Value::Text(text) = value else { return Ok(None) };
    steps.spend_bytes(text.as_str().len())?;
    Ok(Some(text.as_str()))
}

/// The texts of all arguments.
fn texts<'v, const N: usize>(
    steps: &mut Steps,
    arguments: &'v [Value<'_>],
) -> Result<Option<[&'v str; N]>, Fault> {
    let mut texts = [""; N];
    for (place, argument) in texts.iter_mut().zip(arguments) {
        let Some(text) = text(steps, argument)? else { return Ok(None) };
        *place = text;
    }
    Ok(Some(texts))
}

fn size<'a>(steps: &mut Steps, arguments: &[Value<'a>]) -> Result<Option<Value<'a>>, Fault> {
    let size = match text(steps, &arguments[0])? {
        Some(text) => Some(text.chars().count()),
        None => arguments[0].len(),
    };
    Ok(size.map(integer))
}

fn integer<'a>(size: usize) -> Value<'a> {
    Value::Int(i64::try_from(size).unwrap_or(i64::MAX))
}

fn int<'a>(steps: &mut Steps, arguments: &[Value<'a>]) -> Result<Option<Value<'a>>, Fault> {
    // Both bounds are exact; the upper one is the first that does not fit.
    const RANGE: std::ops::Range<f64> = -9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0;
    let int = match &arguments[0] {
        Value::Int(int) => Some(*int),
        Value::Uint(uint) => i64::try_from(*uint).ok(),
        Value::Double(double) => RANGE.contains(double).then_some(*double as i64),
        Value::Timestamp(time) => Some(time.as_second()),
        Value::Text(_) => text(steps, &arguments[0])?.and_then(|text| text.parse().ok()),
        _ => return Ok(None),
    };
    int.map(|int| Some(Value::Int(int))).ok_or_else(|| Fault::failed("the value does not fit into an int"))
}

fn uint<'a>(steps: &mut Steps, arguments: &[Value<'a>]) -> Result<Option<Value<'a>>, Fault> {
    const RANGE: std::ops::Range<f64> = 0.0..18_446_744_073_709_551_616.0;
    let uint = match &arguments[0] {
        Value::Int(int) => u64::try_from(*int).ok(),
        Value::Uint(uint) => Some(*uint),
        Value::Double(double) => RANGE.contains(double).then_some(*double as u64),
        Value::Text(_) => text(steps, &arguments[0])?.and_then(|text| text.parse().ok()),
        _ => return Ok(None),
    };
    uint.map(|uint| Some(Value::Uint(uint)))
        .ok_or_else(|| Fault::failed("the value does not fit into a uint"))
}

fn double<'a>(steps: &mut Steps, arguments: &[Value<'a>]) -> Result<Option<Value<'a>>, Fault> {
    match (&arguments[0], text(steps, &arguments[0])?) {
        (_, Some(text)) => {
            let double = text.parse().map_err(|_| Fault::failed("the string is no number"))?;
            Ok(Some(Value::Double(double)))
        }
        (value, None) => Ok(value.double().map(Value::Double)),
    }
}

fn string<'a>(_: &mut Steps, arguments: &[Value<'a>]) -> Result<Option<Value<'a>>, Fault> {
    Ok(match &arguments[0] {
        Value::Text(_) => Some(arguments[0].clone()),
        Value::Bool(bool) => Some(Value::text(bool.to_string())),
        Value::Int(int) => Some(Value::text(int.to_string())),
        Value::Uint(uint) => Some(Value::text(uint.to_string())),
        Value::Double(double) => Some(Value::text(double.to_string())),
        Value::Timestamp(time) => Some(Value::text(time.to_string())),
        Value::Duration(duration) => Some(Value::text(seconds(*duration))),
        _ => None,
    })
}

fn bool<'a>(_: &mut Steps, arguments: &[Value<'a>]) -> Result<Option<Value<'a>>, Fault> {
    match &arguments[0] {
        Value::Bool(bool) => Ok(Some(Value::Bool(*bool))),
        Value::Text(text) => match text.as_str() {
            "1" | "t" | "true" | "TRUE" | "True" => Ok(Some(Value::Bool(true))),
            "0" | "f" | "false" | "FALSE" | "False" => Ok(Some(Value::Bool(false))),
            _ => Err(Fault::failed("the string is neither true nor false")),
        },
        _ => Ok(None),
    }
}

fn timestamp<'a>(steps: &mut Steps, arguments: &[Value<'a>]) -> Result<Option<Value<'a>>, Fault> {
    let time = match &arguments[0] {
        Value::Timestamp(time) => Ok(*time),
        Value::Int(seconds) => Timestamp::from_second(*seconds),
        Value::Text(_) => text(steps, &arguments[0])?.unwrap_or_default().parse(),
        _ => return Ok(None),
    };
    time.map(|time| Some(Value::Timestamp(time))).map_err(|_| {
        Fault::failed("the value is no time: expected RFC 3339, such as 2026-01-31T10:00:00-03:00")
    })
}

fn duration<'a>(steps: &mut Steps, arguments: &[Value<'a>]) -> Result<Option<Value<'a>>, Fault> {
    if let Value::Duration(duration) = &arguments[0] {
        return Ok(Some(Value::Duration(*duration)));
    }
    let Some(text) = text(steps, &arguments[0])? else { return Ok(None) };
    let duration =
        text.parse().map_err(|_| Fault::failed("the string is no duration: expected 90s, 1h30m, …"))?;
    Ok(Some(Value::Duration(duration)))
}

fn test<'a>(
    steps: &mut Steps,
    arguments: &[Value<'_>],
    test: fn(&str, &str) -> bool,
) -> Result<Option<Value<'a>>, Fault> {
    Ok(texts::<2>(steps, arguments)?.map(|[text, other]| Value::Bool(test(text, other))))
}

fn convert<'a>(
    steps: &mut Steps,
    arguments: &[Value<'_>],
    convert: fn(&str) -> String,
) -> Result<Option<Value<'a>>, Fault> {
    Ok(texts::<1>(steps, arguments)?.map(|[text]| Value::text(convert(text))))
}

fn replace<'a>(steps: &mut Steps, arguments: &[Value<'a>]) -> Result<Option<Value<'a>>, Fault> {
    let Some([text, from, to]) = texts::<3>(steps, arguments)? else { return Ok(None) };
    let count = text.matches(from).count();
    steps.spend(count)?;
    steps.spend_bytes(count.saturating_mul(to.len()))?;
    Ok(Some(Value::text(text.replace(from, to))))
}

fn split<'a>(steps: &mut Steps, arguments: &[Value<'a>]) -> Result<Option<Value<'a>>, Fault> {
    let Some([text, separator]) = texts::<2>(steps, arguments)? else { return Ok(None) };
    steps.spend(text.matches(separator).count())?;
    let parts: Vec<_> = match separator {
        "" => text.chars().map(|c| Value::text(c.to_string())).collect(),
        _ => text.split(separator).map(Value::text).collect(),
    };
    Ok(Some(Value::list(parts)?))
}

fn join<'a>(steps: &mut Steps, arguments: &[Value<'a>]) -> Result<Option<Value<'a>>, Fault> {
    let separator = match arguments.get(1) {
        None => "",
        Some(separator) => match text(steps, separator)? {
            Some(separator) => separator,
            None => return Ok(None),
        },
    };
    let Some(length) = arguments[0].len() else { return Ok(None) };
    let mut joined = String::new();
    for index in 0..length {
        steps.spend(1)?;
        let Some(Value::Text(part)) = arguments[0].item(index) else { return Ok(None) };
        let separator = if index == 0 { "" } else { separator };
        steps.spend_bytes(separator.len() + part.as_str().len())?;
        joined.push_str(separator);
        joined.push_str(part.as_str());
    }
    Ok(Some(Value::text(joined)))
}

fn substring<'a>(steps: &mut Steps, arguments: &[Value<'a>]) -> Result<Option<Value<'a>>, Fault> {
    let Some(text) = text(steps, &arguments[0])? else { return Ok(None) };
    let (Some(start), end) = (arguments[1].integer(), arguments.get(2)) else { return Ok(None) };
    let length = text.chars().count();
    let end = match end {
        None => Some(length as i128),
        Some(end) => end.integer(),
    };
    let Some(end) = end else { return Ok(None) };
    if !(0 <= start && start <= end && end <= length as i128) {
        return Err(Fault::failed("substring() is out of the range of its string"));
    }
    let part: String = text.chars().skip(start as usize).take((end - start) as usize).collect();
    Ok(Some(Value::text(part)))
}

fn index_of<'a>(steps: &mut Steps, arguments: &[Value<'a>]) -> Result<Option<Value<'a>>, Fault> {
    let Some([text, other]) = texts::<2>(steps, arguments)? else { return Ok(None) };
    Ok(Some(text.find(other).map_or(Value::Int(-1), |at| integer(text[..at].chars().count()))))
}

/// A part of the date of a timestamp, in UTC or in the zone that is given.
fn date<'a>(
    steps: &mut Steps,
    arguments: &[Value<'a>],
    part: fn(&Zoned) -> i64,
) -> Result<Option<Value<'a>>, Fault> {
    steps.spend(ZONE_STEPS)?;
    let Value::Timestamp(time) = &arguments[0] else { return Ok(None) };
    let zone = match arguments.get(1) {
        None => "UTC",
        Some(Value::Text(zone)) => zone.as_str(),
        Some(_) => return Ok(None),
    };
    let time = time.in_tz(zone).map_err(|_| {
        Fault::failed("unknown time zone: expected a name of the IANA database, such as America/Sao_Paulo")
    })?;
    Ok(Some(Value::Int(part(&time))))
}

/// A part of the time of a timestamp, or a whole duration in this unit.
fn time<'a>(
    steps: &mut Steps,
    arguments: &[Value<'a>],
    part: fn(&Zoned) -> i64,
    whole: fn(&SignedDuration) -> i64,
) -> Result<Option<Value<'a>>, Fault> {
    match arguments {
        [Value::Duration(duration)] => Ok(Some(Value::Int(whole(duration)))),
        _ => date(steps, arguments, part),
    }
}

/// A duration as CEL and the JSON form of Protocol Buffers write it: `1.5s`.
pub(super) fn seconds(duration: SignedDuration) -> String {
    let (sign, duration) = (if duration.is_negative() { "-" } else { "" }, duration.unsigned_abs());
    match duration.subsec_nanos() {
        0 => format!("{sign}{}s", duration.as_secs()),
        nanos => {
            let fraction = format!("{nanos:09}");
            format!("{sign}{}.{}s", duration.as_secs(), fraction.trim_end_matches('0'))
        }
    }
}
