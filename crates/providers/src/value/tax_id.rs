//! The number by which the Brazilian revenue service knows a person or a company.

use std::fmt;

use serde::Serialize;

use super::{Value, scalar, unexpected};
use crate::body::kind;
use crate::unexpected::Unexpected;

/// A CPF or CNPJ without punctuation: digits, and upper-case letters, which a CNPJ may contain.
///
/// Check digits of a text are not verified: the providers send what their users typed, and their documented examples
/// contain numbers that are neither. A JSON number has lost its leading zeros and gets them back, see
/// [`TaxId::from_number`]. `Display` formats a CPF and a CNPJ; `Debug` shows nothing.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct TaxId(String);

impl TaxId {
    /// The longest kept: a CNPJ has 14 characters, foreign documents a few more.
    const LIMIT_CHARS: usize = 32;

    /// A tax id from text, bare or formatted; `None` if it is empty or too long without punctuation.
    pub fn new(text: &str) -> Option<Self> {
        let bare: String =
            text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_uppercase()).collect();
        (!bare.is_empty() && bare.len() <= Self::LIMIT_CHARS).then_some(Self(bare))
    }

    /// What to look for where a person wrote `text`: the bare form, or the text itself where it is no tax id, which nobody
    /// has.
    pub fn sought(text: &str) -> String {
        Self::new(text).map_or_else(|| text.to_owned(), |id| id.0)
    }

    /// A CPF (11 digits) or a CNPJ (14) that came as a number. Up to 11 digits may be either: the check digits tell
    /// which and, where both fit, a CNPJ is one whose digits before them are `0001`, the head office. Where neither
    /// fits it is a CPF. `None` for anything but a positive integer of at most 14 digits.
    fn from_number(digits: &str) -> Option<Self> {
        if digits == "0" || digits.len() > 14 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let (cpf, cnpj) = (format!("{digits:0>11}"), format!("{digits:0>14}"));
        let is_cpf = cpf.len() == 11 && has_check_digits(&cpf, 11);
        let is_cnpj = has_check_digits(&cnpj, 9) && (!is_cpf || &cnpj[8..12] == "0001");
        Some(Self(if is_cnpj || cpf.len() > 11 { cnpj } else { cpf }))
    }

    /// The bare text: what is stored and compared.
    pub fn bare(&self) -> &str {
        &self.0
    }

    /// Formatted for a screen, with what identifies a person hidden: `***.982.247-**`.
    pub fn masked(&self) -> String {
        match self.parts() {
            Parts::Cpf([_, b, c, _]) => format!("***.{b}.{c}-**"),
            Parts::Cnpj([_, b, c, d, _]) => format!("**.{b}.{c}/{d}-**"),
            Parts::Other => "***".to_owned(),
        }
    }

    fn parts(&self) -> Parts<'_> {
        let part = |from: usize, to: usize| &self.0[from..to];
        match self.0.len() {
            11 => Parts::Cpf([part(0, 3), part(3, 6), part(6, 9), part(9, 11)]),
            14 => Parts::Cnpj([part(0, 2), part(2, 5), part(5, 8), part(8, 12), part(12, 14)]),
            _ => Parts::Other,
        }
    }
}

/// Whether the last two digits are the check digits of the others: weights from 2 upwards, right to left, starting
/// again after `greatest`; modulo 11.
fn has_check_digits(text: &str, greatest: u32) -> bool {
    let digits: Vec<u32> = text.bytes().map(|byte| u32::from(byte - b'0')).collect();
    (1..=2).rev().all(|back| {
        let (before, check) = digits.split_at(digits.len() - back);
        let weights = (2..=greatest).cycle();
        let sum: u32 = before.iter().rev().zip(weights).map(|(digit, weight)| digit * weight).sum();
        check[0] == if sum % 11 < 2 { 0 } else { 11 - sum % 11 }
    })
}

enum Parts<'a> {
    Cpf([&'a str; 4]),
    Cnpj([&'a str; 5]),
    Other,
}

impl fmt::Display for TaxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parts() {
            Parts::Cpf([a, b, c, d]) => write!(f, "{a}.{b}.{c}-{d}"),
            Parts::Cnpj([a, b, c, d, e]) => write!(f, "{a}.{b}.{c}/{d}-{e}"),
            Parts::Other => f.write_str(&self.0),
        }
    }
}

impl fmt::Debug for TaxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[document]")
    }
}

impl Value for TaxId {
    fn read(json: &str) -> Result<Self, Unexpected> {
        let id = match kind(json) {
            "a number" => scalar(json).and_then(|digits| Self::from_number(&digits)),
            _ => scalar(json).and_then(|text| Self::new(&text)),
        };
        id.ok_or_else(|| unexpected("a CPF or CNPJ", json))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tax_id_is_stored_bare_and_shown_formatted() {
        let check = |text: &str, bare: &str, shown: &str, masked: &str| {
            let id = TaxId::new(text).unwrap();
            assert_eq!((id.bare(), id.to_string().as_str(), id.masked().as_str()), (bare, shown, masked));
            assert_eq!(format!("{id:?}"), "[document]");
        };
        check("529.982.247-25", "52998224725", "529.982.247-25", "***.982.247-**");
        check("52998224725", "52998224725", "529.982.247-25", "***.982.247-**");
        check("12.abc.345/01de-35", "12ABC34501DE35", "12.ABC.345/01DE-35", "**.ABC.345/01DE-**");
        check("123421341234", "123421341234", "123421341234", "***");
    }

    #[test]
    fn what_holds_no_tax_id_is_refused_without_being_quoted() {
        let check = |json: &str, expect: &str| assert_eq!(TaxId::read(json).unwrap_err().to_string(), expect);
        check(r#"" - ""#, "expected a CPF or CNPJ, got a text of 3 characters");
        check(r#"{"cpf": "52998224725"}"#, "expected a CPF or CNPJ, got an object");
        check(&format!("\"{}\"", "1".repeat(33)), "expected a CPF or CNPJ, got a text of 33 characters");
        for (number, length) in [("0", 1), ("-52998224725", 12), ("5.5", 3), ("123456789012345", 15)] {
            check(
                number,
                &format!(
                    "expected a CPF or CNPJ, got a number of {length} character{}",
                    if length == 1 { "" } else { "s" }
                ),
            );
        }
    }

    #[test]
    fn a_number_is_the_same_person_or_company_as_the_text_with_its_zeros() {
        let check = |number: &str, text: &str| {
            let (number, text) = (TaxId::read(number).unwrap(), TaxId::new(text).unwrap());
            assert_eq!(number, text);
        };
        check("52998224725", "529.982.247-25");
        check("1234567890", "012.345.678-90");
        check("1234567890.0", "012.345.678-90");
        check("1234567.97e2", "001.234.567-97");
        check("191", "00.000.000/0001-91");
        check("208000100", "00.000.208/0001-00");
        check("7504505000132", "07.504.505/0001-32");
        check("11222333000181", "11.222.333/0001-81");
        // A branch of a company, whose digits are not those of a CPF.
        check("11222333000262", "11.222.333/0002-62");
        // Neither fits: by length.
        check("1234567899", "01234567899");
        check("123421341234", "00123421341234");
    }
}
