//! SPDX licence expressions: whether a list of licences satisfies one.
//!
//! Knows `OR`, `AND`, `WITH`, parentheses, and the `/` that older manifests write for `OR`. `AND` binds closer than `OR`.

use anyhow::{Result, bail, ensure};

/// Whether every obligation of the expression is met by the licences of `allowed`. A licence with an exception is one
/// entry, `Apache-2.0 WITH LLVM-exception`.
///
/// # Errors
/// The text is no licence expression; says what is wrong.
pub fn satisfied(expression: &str, allowed: &[String]) -> Result<bool> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser { words: &words, allowed };
    let satisfied = parser.any()?;
    match parser.words.first() {
        None => Ok(satisfied),
        Some(word) => bail!("`{word}` is not expected there"),
    }
}

struct Parser<'a> {
    /// What is not read yet.
    words: &'a [&'a str],
    allowed: &'a [String],
}

impl<'a> Parser<'a> {
    fn any(&mut self) -> Result<bool> {
        let mut satisfied = self.all()?;
        while self.take("OR") {
            satisfied |= self.all()?;
        }
        Ok(satisfied)
    }

    fn all(&mut self) -> Result<bool> {
        let mut satisfied = self.one()?;
        while self.take("AND") {
            satisfied &= self.one()?;
        }
        Ok(satisfied)
    }

    fn one(&mut self) -> Result<bool> {
        if self.take("(") {
            let satisfied = self.any()?;
            ensure!(self.take(")"), "a parenthesis is not closed");
            return Ok(satisfied);
        }
        let licence = self.name()?;
        let licence =
            if self.take("WITH") { format!("{licence} WITH {}", self.name()?) } else { licence.to_owned() };
        Ok(self.allowed.contains(&licence))
    }

    fn name(&mut self) -> Result<&'a str> {
        match self.words {
            [] => bail!("it ends where a licence is expected"),
            [word @ ("OR" | "AND" | "WITH" | "(" | ")"), ..] => {
                bail!("`{word}` stands where a licence is expected")
            }
            [word, rest @ ..] => {
                self.words = rest;
                Ok(word)
            }
        }
    }

    fn take(&mut self, word: &str) -> bool {
        let taken = self.words.first() == Some(&word);
        if taken {
            self.words = &self.words[1..];
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expression: &str) -> Option<bool> {
        let allowed = ["MIT", "Apache-2.0", "Zlib", "GPL-2.0 WITH Classpath-exception-2.0"];
        satisfied(expression, &allowed.map(str::to_owned)).ok()
    }

    #[test]
    fn one_licence_of_several_is_enough_and_every_one_of_several_is_needed() {
        for allowed in
            ["MIT", "MIT OR GPL-3.0", "GPL-3.0 OR MIT", "GPL-3.0/MIT", "GPL-3.0 / MIT", "MIT AND Zlib"]
        {
            assert_eq!(check(allowed), Some(true), "{allowed}");
        }
        for denied in ["GPL-3.0", "mit", "MIT AND GPL-3.0", "GPL-3.0 AND MIT", "GPL-3.0 OR AGPL-3.0"] {
            assert_eq!(check(denied), Some(false), "{denied}");
        }
    }

    #[test]
    fn and_binds_closer_than_or_and_parentheses_closer_than_both() {
        assert_eq!(check("MIT OR GPL-3.0 AND AGPL-3.0"), Some(true));
        assert_eq!(check("(MIT OR GPL-3.0) AND AGPL-3.0"), Some(false));
        assert_eq!(check("(MIT OR GPL-3.0) AND (AGPL-3.0 OR Zlib)"), Some(true));
    }

    #[test]
    fn a_licence_with_an_exception_is_another_licence() {
        assert_eq!(check("GPL-2.0 WITH Classpath-exception-2.0 AND MIT"), Some(true));
        assert_eq!(check("GPL-2.0"), Some(false));
        assert_eq!(check("Apache-2.0 WITH LLVM-exception"), Some(false));
        assert_eq!(check("Apache-2.0 WITH LLVM-exception OR MIT"), Some(true));
    }

    #[test]
    fn what_is_no_expression_is_an_error() {
        for wrong in ["", "MIT OR", "(MIT", "MIT)", "MIT Zlib", "AND MIT", "MIT WITH"] {
            assert!(check(wrong).is_none(), "{wrong}");
        }
    }
}
