//! The number by which the Brazilian revenue service knows a person or a company.

use std::fmt;

use serde::Serialize;

use super::{Value, deserialize, kind, scalar};

/// A CPF or CNPJ, kept bare: letters (a CNPJ may hold them) in upper case and digits, no punctuation.
///
/// Check digits are not looked at: the providers send what their own users typed, and their documented
/// examples hold numbers that are neither. `Display` formats a CPF and a CNPJ; `Debug` shows nothing.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct TaxId(String);

impl TaxId {
    /// The longest kept: a CNPJ has 14 characters, foreign documents a few more.
    const LIMIT_CHARS: usize = 32;

    /// A tax id from text, bare or formatted; `None` if nothing, or too much, is left of it.
    pub fn new(text: &str) -> Option<Self> {
        let bare: String =
            text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_uppercase()).collect();
        (!bare.is_empty() && bare.len() <= Self::LIMIT_CHARS).then_some(Self(bare))
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
    fn read(json: &str) -> Result<Self, String> {
        let expected = |got: &str| format!("expected a CPF or CNPJ, got {got}");
        let text = scalar(json).ok_or_else(|| expected(kind(json)))?;
        Self::new(&text).ok_or_else(|| expected("text that holds none"))
    }
}

deserialize!(TaxId);

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
        let check = |json: &str, expect: &str| assert_eq!(TaxId::read(json).unwrap_err(), expect);
        check(r#"" - ""#, "expected a CPF or CNPJ, got text that holds none");
        check(r#"{"cpf": "52998224725"}"#, "expected a CPF or CNPJ, got an object");
        check(&format!("\"{}\"", "1".repeat(33)), "expected a CPF or CNPJ, got text that holds none");
    }
}
