//! An error and its causes on one line: how malote writes an error where one line is what there is.

use std::error::Error;
use std::fmt;

/// Displays an error, then each cause after a colon. A cause that says what was just said is left out.
#[derive(Clone, Copy, Debug)]
pub struct Chain<'a>(pub &'a (dyn Error + 'a));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.to_string();
        f.write_str(&said)?;
        let mut next = self.0.source();
        while let Some(cause) = next {
            let text = cause.to_string();
            if !said.ends_with(&text) {
                write!(f, ": {text}")?;
                said = text;
            }
            next = cause.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Level(&'static str, #[source] Option<Box<Level>>);

    #[test]
    fn each_level_is_said_once() {
        let level = |text, below| Level(text, Some(Box::new(below)));
        let error = level("not stored", level("the broker is down: refused", Level("refused", None)));
        assert_eq!(Chain(&error).to_string(), "not stored: the broker is down: refused");
    }
}
