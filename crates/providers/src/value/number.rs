//! Numbers: money, dioptres, degrees, and the provider's order of facts. Never through a binary float.

use std::fmt;

use rust_decimal::Decimal;
use serde::ser::Error;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::{Value, deserialize, scalar, shown};

/// An amount of money in centavos, exact.
///
/// Read from a JSON number or string: `460.20`, `460.2`, `"395.00"`, `20`. Negative amounts are allowed
/// (credits and corrections). More than two decimals that are not zero, and amounts beyond an `i64` of
/// centavos, are errors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Centavos(pub i64);

impl fmt::Display for Centavos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Decimal::new(self.0, 2).fmt(f)
    }
}

impl Value for Centavos {
    fn read(json: &str) -> Result<Self, String> {
        // Normalised, so that zeros at the end neither count as decimals nor keep an amount out of range.
        let amount = decimal(json)?.normalize();
        let expected = |what: &str| format!("expected {what}, got {}", shown(json));
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
            fn read(json: &str) -> Result<Self, String> {
                // Health data: the error does not quote it.
                decimal(json).map(Self).map_err(|_| format!("expected a decimal, got {}", super::kind(json)))
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
    fn read(json: &str) -> Result<Self, String> {
        scalar(json)
            .and_then(|text| text.parse().ok())
            .map(Self)
            .ok_or_else(|| format!("expected a whole number, got {}", shown(json)))
    }
}

deserialize!(Centavos, Dioptres, Degrees, Sequence);

/// The decimal in a JSON number or string, exactly: digits that do not fit are an error, not rounded away.
fn decimal(json: &str) -> Result<Decimal, String> {
    let read = || {
        let text = scalar(json)?;
        // The JSON number grammar (RFC 8259, section 6), for strings too: no digit groups, no comma.
        serde_json::from_str::<&RawValue>(&text).ok().filter(|raw| super::kind(raw.get()) == "a number")?;
        match text.split_once(['e', 'E']) {
            Some((base, _)) => {
                Decimal::from_str_exact(base).ok()?;
                Decimal::from_scientific(&text).ok()
            }
            None => Decimal::from_str_exact(&text).ok(),
        }
    };
    read().ok_or_else(|| format!("expected a decimal, got {}", shown(json)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_exact_to_the_centavo() {
        let check = |json: &str, expect: Result<i64, &str>| {
            assert_eq!(Centavos::read(json).map(|c| c.0), expect.map_err(str::to_owned), "{json}");
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
            Err("expected an amount below 92233720368547758.08, got 92233720368547758.08"),
        );
        check("460.201", Err("expected at most two decimals, got 460.201"));
        check(r#""abc""#, Err(r#"expected a decimal, got "abc""#));
        check(r#""460,20""#, Err(r#"expected a decimal, got "460,20""#));
        check(r#""1_000""#, Err(r#"expected a decimal, got "1_000""#));
        check(r#""""#, Err(r#"expected a decimal, got """#));
        check("null", Err("expected a decimal, got null"));
        check("[1]", Err("expected a decimal, got an array"));
        check("1e400", Err("expected a decimal, got 1e400"));
        check("1e-400", Err("expected a decimal, got 1e-400"));
        check(
            "0.12345678901234567890123456789012",
            Err("expected a decimal, got 0.12345678901234567890123456789012"),
        );
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
        assert_eq!(Degrees::read(r#""x180""#).unwrap_err(), "expected a decimal, got a string");
    }

    #[test]
    fn a_sequence_is_a_whole_number() {
        assert_eq!(Sequence::read("88120"), Ok(Sequence(88120)));
        assert_eq!(Sequence::read(r#""88120""#), Ok(Sequence(88120)));
        assert_eq!(Sequence::read("1.5").unwrap_err(), "expected a whole number, got 1.5");
    }
}
