//! Numbers: money, dioptres, degrees, and the provider's order of facts. Never through a binary float.

use std::borrow::Cow;
use std::fmt;

use rust_decimal::Decimal;
use serde::de;
use serde::ser::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use super::{Value, scalar, unexpected, written};
use crate::body::kind;
use crate::unexpected::Unexpected;

/// An amount of money in centavos, exact.
///
/// Read from a JSON number or string: `460.20`, `460.2`, `20`, `"395.00"`, and in local notations, `"1.380,60"`,
/// `"1380,60"`, `"R$ 20,00"` or `"1,380.60"`. Negative amounts are allowed (credits and corrections). More than two
/// decimals that are not zero, amounts beyond an `i64` of centavos, and ambiguous texts (`"1.380"` and `"1,380"`) are
/// errors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Centavos(pub i64);

impl fmt::Display for Centavos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Decimal::new(self.0, 2).fmt(f)
    }
}

impl Value for Centavos {
    fn read(json: &str) -> Result<Self, Unexpected> {
        let expected = |what: &'static str| unexpected(what, json);
        let text = match super::string(json) {
            Some(text) => plain_amount(&text).map_err(expected)?,
            None => json.to_owned(),
        };
        // Normalised, so that trailing zeros neither count as decimals nor put an amount out of range.
        let amount = decimal(&text).ok_or_else(|| expected("a decimal"))?.normalize();
        let factor =
            10_i128.pow(2_u32.checked_sub(amount.scale()).ok_or_else(|| expected("at most two decimals"))?);
        i64::try_from(amount.mantissa() * factor)
            .map(Self)
            .map_err(|_| expected("an amount below 92233720368547758.08"))
    }
}

macro_rules! exact {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Decimal);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("[health data]")
            }
        }

        impl Value for $name {
            fn read(json: &str) -> Result<Self, Unexpected> {
                // A comma is a decimal point: no power or axis reaches thousands.
                let text = written(json).map(|text| text.replacen(',', ".", 1));
                let decimal = text.and_then(|text| decimal(text.trim()));
                decimal.map(Self).ok_or_else(|| unexpected("a decimal", json))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::read(<&RawValue>::deserialize(deserializer)?.get()).map_err(de::Error::custom)
            }
        }

        impl Serialize for $name {
            /// A JSON number with the decimals it came with.
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                RawValue::from_string(self.to_string()).map_err(S::Error::custom)?.serialize(serializer)
            }
        }
    };
}

exact! {
    /// The power of a lens, exactly as prescribed. Health data: `Debug` does not show it.
    Dioptres
}

exact! {
    /// The axis of a lens, in degrees. Health data: `Debug` does not show it.
    Degrees
}

/// A number that grows with each fact: of two notices about the same thing, the one with the greater is
/// newer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Sequence(pub i64);

impl Value for Sequence {
    fn read(json: &str) -> Result<Self, Unexpected> {
        scalar(json)
            .and_then(|text| integer(text.trim()).parse().ok())
            .map(Self)
            .ok_or_else(|| unexpected("a whole number", json))
    }
}

/// The exact decimal of a number: digits that do not fit are an error and are not rounded.
fn decimal(text: &str) -> Option<Decimal> {
    // The JSON number grammar (RFC 8259, section 6): no digit groups, no comma.
    serde_json::from_str::<&RawValue>(text).ok().filter(|raw| kind(raw.get()) == "a number")?;
    match text.split_once(['e', 'E']) {
        Some((base, _)) => {
            Decimal::from_str_exact(base).ok()?;
            Decimal::from_scientific(text).ok()
        }
        None => Decimal::from_str_exact(text).ok(),
    }
}

/// An amount in a local notation as the text of a number, or what was expected instead.
///
/// Of two different separators the last is the decimal one. A repeated separator groups thousands. A single separator
/// before three digits is ambiguous, unless what precedes it cannot be a group of thousands (`0.380`, `1380.600`).
fn plain_amount(text: &str) -> Result<String, &'static str> {
    const EXPECTED: &str = "a decimal";
    let text = text.trim();
    let (sign, text) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    let text = text.strip_prefix("R$").unwrap_or(text).trim_start();
    let Some(last) = text.rfind(['.', ',']) else { return Ok(format!("{sign}{text}")) };
    let mark = &text[last..=last];
    let other = if mark == "." { "," } else { "." };
    let (whole, decimals) = (&text[..last], &text[last + 1..]);
    let groups = |whole: &str, mark: &str| {
        let mut groups = whole.split(mark);
        let first = groups.next().unwrap_or_default();
        let is_first = (1..=3).contains(&first.len()) && (!first.starts_with('0') || whole == "0");
        let is_grouped = is_first && groups.all(|group| group.len() == 3);
        is_grouped.then(|| whole.replace(mark, "")).ok_or(EXPECTED)
    };
    if whole.contains(other) {
        return Ok(format!("{sign}{}.{decimals}", groups(whole, other)?));
    }
    if whole.contains(mark) {
        return Ok(format!("{sign}{}", groups(text, mark)?));
    }
    if decimals.len() == 3 && groups(text, mark).is_ok() {
        return Err("an amount with its decimals, such as 1380.00, that can be read in one way only");
    }
    Ok(format!("{sign}{whole}.{decimals}"))
}

/// A JSON number, or the same number as an integer if it is one: `1902.0` and `19.02e2` are `1902`. Other numbers, and
/// those with more digits than any id, stay as written.
pub(crate) fn integer(number: &str) -> Cow<'_, str> {
    const LIMIT_DIGITS: i64 = 40;
    let as_integer = || {
        let (base, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
        let (sign, base) = base.strip_prefix('-').map_or(("", base), |base| ("-", base));
        let (whole, decimals) = base.split_once('.').unwrap_or((base, ""));
        let digits = [whole, decimals].concat();
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let significant = digits.trim_end_matches('0');
        if significant.is_empty() {
            return Some("0".to_owned());
        }
        // The number of digits before the point.
        let point = i64::try_from(whole.len()).ok()?.checked_add(exponent.parse::<i64>().ok()?)?;
        let point = usize::try_from(point).ok().filter(|_| point <= LIMIT_DIGITS)?;
        let integral = digits.get(..point).unwrap_or(&digits);
        if significant.len() > point {
            return None;
        }
        let padded = format!("{integral:0<point$}");
        Some(format!("{sign}{}", padded.trim_start_matches('0')))
    };
    match number.contains(['.', 'e', 'E']) || number.starts_with("-0") {
        true => as_integer().map_or(Cow::Borrowed(number), Cow::Owned),
        false => Cow::Borrowed(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_exact_to_the_centavo() {
        let check = |json: &str, expect: Result<i64, &str>| {
            assert_eq!(
                Centavos::read(json).map(|c| c.0).map_err(|error| error.to_string()),
                expect.map_err(str::to_owned),
                "{json}"
            );
        };
        check("460.20", Ok(46020));
        check("460.2", Ok(46020));
        check("460.2000", Ok(46020));
        check(r#""395.00""#, Ok(39500));
        check("0.29", Ok(29));
        check("1.15e2", Ok(11500));
        check("4E+2", Ok(40000));
        check("-16.66", Ok(-1666));
        check("0", Ok(0));
        check("-0.0", Ok(0));
        check("9007199254740993.01", Ok(900_719_925_474_099_301));
        check("92233720368547758.07", Ok(i64::MAX));
        check(
            "92233720368547758.08",
            Err("expected an amount below 92233720368547758.08, got a number of 20 characters"),
        );
        check("460.201", Err("expected at most two decimals, got a number of 7 characters"));
        check(r#""abc""#, Err("expected a decimal, got a text of 3 characters"));
        check(r#""1_000""#, Err("expected a decimal, got a text of 5 characters"));
        check(r#""""#, Err("expected a decimal, got a text of 0 characters"));
        check("null", Err("expected a decimal, got null"));
        check("[1]", Err("expected a decimal, got an array"));
        check("1e400", Err("expected a decimal, got a number of 5 characters"));
        check("1e-400", Err("expected a decimal, got a number of 6 characters"));
        check("0.12345678901234567890123456789012", Err("expected a decimal, got a number of 34 characters"));
    }

    #[test]
    fn money_as_people_write_it_is_read_in_one_way_or_refused() {
        let check = |text: &str, expect: Option<i64>| {
            let got = Centavos::read(&serde_json::to_string(text).unwrap());
            assert_eq!(got.as_ref().ok().map(|amount| amount.0), expect, "{text}: {got:?}");
            got.err().map(|error| error.to_string()).unwrap_or_default()
        };
        for (text, centavos) in [
            ("1.380,60", 138_060),
            ("1380,60", 138_060),
            ("460,2", 46020),
            ("1.234.567,89", 123_456_789),
            ("1,380.60", 138_060),
            ("1.380.000", 138_000_000),
            ("1,380,000", 138_000_000),
            ("1.380,600", 138_060),
            ("R$ 1.380,60", 138_060),
            ("R$\u{a0}20", 2000),
            (" -1.380,60 ", -138_060),
            ("0.380", 38),
            ("0,380", 38),
            ("1380.600", 138_060),
            ("460.2000", 46020),
        ] {
            check(text, Some(centavos));
        }
        for ambiguous in ["1.380", "1,380", "12.000", "-999.999", "R$ 1.380", "2.000"] {
            assert!(check(ambiguous, None).contains("one way only"), "{ambiguous}");
        }
        for wrong in [
            "1.38.0",
            "1.380,605",
            "13800.000,00",
            "1.380.60",
            ",",
            ".5",
            "1,",
            "1.,5",
            "01.380,00",
            "--1",
            "1 380,60",
        ] {
            check(wrong, None);
        }
        // A JSON number is never ambiguous.
        assert_eq!(Centavos::read("1.380"), Ok(Centavos(138)));
    }

    #[test]
    fn an_integral_number_is_written_as_an_integer_and_no_other_changes() {
        let check = |number: &str, expect: &str| assert_eq!(integer(number), expect, "{number}");
        check("1902", "1902");
        check("1902.0", "1902");
        check("1902.000", "1902");
        check("19.02e2", "1902");
        check("1.902E+3", "1902");
        check("190200e-2", "1902");
        check("0.1902e4", "1902");
        check("-3.0", "-3");
        check("0.0", "0");
        check("-0", "0");
        check("-0.0e7", "0");
        check("100.0", "100");
        check("9007199254740993.0", "9007199254740993");
        check("12345678901234567890123.00", "12345678901234567890123");
        check("1.5", "1.5");
        check("19e-1", "19e-1");
        check("1e-400", "1e-400");
        check("1e400", "1e400");
        check("1e99999999999999999999", "1e99999999999999999999");
    }

    #[test]
    fn centavos_are_shown_as_money() {
        assert_eq!(Centavos(46020).to_string(), "460.20");
        assert_eq!(Centavos(-5).to_string(), "-0.05");
    }

    #[test]
    fn dioptres_keep_their_decimals_and_stay_out_of_debug() {
        let check = |json: &str, expect: &str| {
            let value = Dioptres::read(json).unwrap();
            assert_eq!(serde_json::to_string(&value).unwrap(), expect);
            assert_eq!(format!("{value:?}"), "[health data]");
        };
        check("-0.75", "-0.75");
        check("1.50", "1.50");
        check("0", "0");
        check(r#""-2.25""#, "-2.25");
        check(r#""-2,25""#, "-2.25");
        assert_eq!(
            Degrees::read(r#""x180""#).unwrap_err().to_string(),
            "expected a decimal, got a text of 4 characters"
        );
    }

    #[test]
    fn a_sequence_is_a_whole_number() {
        assert_eq!(Sequence::read("88120"), Ok(Sequence(88120)));
        assert_eq!(Sequence::read(r#""88120""#), Ok(Sequence(88120)));
        assert_eq!(Sequence::read("88120.0"), Ok(Sequence(88120)));
        assert_eq!(Sequence::read("9007199254740993.0"), Ok(Sequence(9_007_199_254_740_993)));
        assert_eq!(
            Sequence::read("1.5").unwrap_err().to_string(),
            "expected a whole number, got a number of 3 characters"
        );
    }
}
