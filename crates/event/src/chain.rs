//! An error and its causes on one line: the form that errors have in logs and reports.

use std::error::Error;
use std::fmt;

/// Displays an error, then each cause after a colon. A cause that repeats the text before it is left out.
#[derive(Clone, Copy, Debug)]
pub struct Chain<'a>(pub &'a (dyn Error + 'a));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = self.0.to_string();
        f.write_str(&last)?;
        let mut next = self.0.source();
        while let Some(cause) = next {
            let text = cause.to_string();
            if !last.ends_with(&text) {
                write!(f, ": {text}")?;
                last = text;
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
