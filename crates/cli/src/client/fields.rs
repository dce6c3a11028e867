//! A resource as text: lines of name and value.

use serde::Serialize;
use serde::de::DeserializeOwned;
use view::{Form, shown};

use crate::local;

/// A resource that a command shows.
pub trait Described: DeserializeOwned {
    /// It as text, with a line's end at its end.
    fn described(&self) -> String;
}

/// Lines of name and value.
pub struct Fields {
    /// The lines so far, with a line's end after each.
    pub text: String,
    width: usize,
}

impl Fields {
    /// No lines yet; names are this wide.
    pub fn new(width: usize) -> Self {
        Self { text: String::new(), width }
    }

    /// Adds a line, unless there is no value.
    fn add(mut self, name: &str, value: &impl Serialize, form: Form) -> Self {
        let value = shown(value);
        if !value.is_null() {
            let (text, width) = (local::written(form, &value), self.width);
            self.text += &format!("{name:width$}  {text}\n");
        }
        self
    }

    /// Adds a text or a number.
    pub fn text(self, name: &str, value: &impl Serialize) -> Self {
        self.add(name, value, Form::Text)
    }

    /// Adds a point in time.
    pub fn time(self, name: &str, value: &impl Serialize) -> Self {
        self.add(name, value, Form::Time)
    }
}

/// What follows something that is masked.
pub fn hidden(is_masked: bool) -> &'static str {
    if is_masked { "\nPersonal data is masked; --reveal shows it, which is on record.\n" } else { "" }
}

/// A length in bytes.
pub fn bytes(size: i64) -> String {
    format!("{size} byte{}", if size == 1 { "" } else { "s" })
}
