//! The text of an expression as tokens (CEL specification, "Syntax").

use super::value::Literal;

/// A token and where it begins, in bytes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) at: usize,
    pub(super) lexeme: Lexeme,
}

/// What a token is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Lexeme {
    /// A number or string. `true`, `false` and `null` are names.
    Literal(Literal),
    /// An integer without its sign, which may be one more than the greatest.
    Integer(u64),
    /// A name or keyword.
    Name(String),
    /// A name in backticks, which only follows a dot.
    Quoted(String),
    /// An operator or a bracket.
    Sign(&'static str),
    /// After the last token.
    End,
}

/// What cannot be read, and where.
#[derive(Debug)]
pub(super) struct Misread {
    pub(super) at: usize,
    pub(super) message: String,
}

/// Longer ones first.
const SIGNS: [&str; 25] = [
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "!", "+", "-", "*", "/", "%", "(", ")", "[", "]", "{", "}",
    ",", ".", ":", "?", "=",
];

/// The tokens of a text, the last of which is [`Lexeme::End`].
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, Misread> {
    let mut lexer = Lexer { text, at: 0 };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_space();
        let at = lexer.at;
        let lexeme = lexer.next()?;
        let is_end = lexeme == Lexeme::End;
        tokens.push(Token { at, lexeme });
        if is_end {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// Consumes what fits from here on.
    fn take_while(&mut self, fits: impl Fn(char) -> bool) -> &str {
        let start = self.at;
        self.at += self.rest().find(|c| !fits(c)).unwrap_or(self.rest().len());
        &self.text[start..self.at]
    }

    fn skip_space(&mut self) {
        loop {
            self.take_while(|c| c.is_ascii_whitespace());
            if !self.rest().starts_with("//") {
                return;
            }
            self.take_while(|c| c != '\n');
        }
    }

    fn next(&mut self) -> Result<Lexeme, Misread> {
        let start = self.at;
        let Some(first) = self.peek() else { return Ok(Lexeme::End) };
        let is_fraction = || self.rest()[1..].starts_with(|c: char| c.is_ascii_digit());
        if first.is_ascii_digit() || first == '.' && is_fraction() {
            return self.number();
        }
        if first == '`' {
            self.at += 1;
            let name = self.take_while(|c| c.is_ascii_alphanumeric() || "_.-/ ".contains(c)).to_owned();
            if name.is_empty() || self.peek() != Some('`') {
                return Err(misread(
                    start,
                    "a name in backticks has letters, digits, spaces and _ . - / only",
                ));
            }
            self.at += 1;
            return Ok(Lexeme::Quoted(name));
        }
        if first == '_' || first.is_ascii_alphabetic() {
            let name = self.take_while(|c| c == '_' || c.is_ascii_alphanumeric()).to_owned();
            return match self.peek() {
                Some('"' | '\'') => self.prefixed(start, &name),
                _ => Ok(Lexeme::Name(name)),
            };
        }
        if first == '"' || first == '\'' {
            return self.string(false);
        }
        match SIGNS.iter().find(|sign| self.rest().starts_with(**sign)) {
            Some(&"=") => Err(misread(start, "`=` is no operator: write `==` to compare")),
            Some(sign) => {
                self.at += sign.len();
                Ok(Lexeme::Sign(sign))
            }
            None => Err(misread(start, format!("unexpected character {first:?}"))),
        }
    }

    /// The string after a prefix.
    fn prefixed(&mut self, start: usize, prefix: &str) -> Result<Lexeme, Misread> {
        match prefix {
            "r" | "R" => self.string(true),
            _ if ["b", "br", "rb"].contains(&prefix.to_ascii_lowercase().as_str()) => {
                Err(misread(start, "bytes are not supported"))
            }
            _ => Err(misread(self.at, "unexpected string")),
        }
    }

    fn number(&mut self) -> Result<Lexeme, Misread> {
        let start = self.at;
        if let Some(digits) = self.rest().strip_prefix("0x").or_else(|| self.rest().strip_prefix("0X")) {
            let length = digits.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(digits.len());
            let number = u64::from_str_radix(&digits[..length], 16);
            self.at += 2 + length;
            return self.integer(start, number.ok());
        }
        self.take_while(|c| c.is_ascii_digit());
        let mut is_double = false;
        let mut after = self.rest().chars();
        if after.next() == Some('.') && after.next().is_some_and(|c| c.is_ascii_digit()) {
            is_double = true;
            self.at += 1;
            self.take_while(|c| c.is_ascii_digit());
        }
        let exponent = self.rest().strip_prefix(['e', 'E']);
        let digits = exponent.map(|rest| rest.strip_prefix(['+', '-']).unwrap_or(rest));
        if let Some(digits) = digits.filter(|digits| digits.starts_with(|c: char| c.is_ascii_digit())) {
            is_double = true;
            self.at = self.text.len() - digits.len();
            self.take_while(|c| c.is_ascii_digit());
        }
        let digits = &self.text[start..self.at];
        if !is_double {
            let number = digits.parse().ok();
            return self.integer(start, number);
        }
        match digits.parse::<f64>() {
            Ok(double) if double.is_finite() => Ok(Lexeme::Literal(Literal::Double(double))),
            _ => Err(misread(start, "the number is too large")),
        }
    }

    fn integer(&mut self, start: usize, number: Option<u64>) -> Result<Lexeme, Misread> {
        let Some(number) = number else {
            return Err(misread(start, "the number is malformed, or does not fit into 64 bits"));
        };
        if self.peek().is_some_and(|c| c == 'u' || c == 'U') {
            self.at += 1;
            return Ok(Lexeme::Literal(Literal::Uint(number)));
        }
        Ok(Lexeme::Integer(number))
    }

    /// A string, which begins here with its quotation mark.
    fn string(&mut self, is_raw: bool) -> Result<Lexeme, Misread> {
        let start = self.at;
        let one = if self.peek() == Some('"') { "\"" } else { "'" };
        let three = one.repeat(3);
        let quote = if self.rest().starts_with(&three) { three.as_str() } else { one };
        self.at += quote.len();
        let mut string = String::new();
        while !self.rest().starts_with(quote) {
            let at = self.at;
            let Some(c) = self.peek().filter(|c| quote.len() == 3 || *c != '\n') else {
                return Err(misread(start, format!("the string does not end: {quote} is missing")));
            };
            self.at += c.len_utf8();
            if c == '\\' && !is_raw {
                string.push(self.escaped().ok_or_else(|| misread(at, "unknown escape sequence"))?);
            } else {
                string.push(c);
            }
        }
        self.at += quote.len();
        Ok(Lexeme::Literal(Literal::Text(string)))
    }

    /// The character of an escape sequence, after its backslash.
    fn escaped(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        let (digits, radix) = match c {
            'a' => return Some('\x07'),
            'b' => return Some('\x08'),
            'f' => return Some('\x0c'),
            'n' => return Some('\n'),
            'r' => return Some('\r'),
            't' => return Some('\t'),
            'v' => return Some('\x0b'),
            '\\' | '?' | '"' | '\'' | '`' => return Some(c),
            'x' | 'X' => (2, 16),
            'u' => (4, 16),
            'U' => (8, 16),
            '0'..='3' => {
                self.at -= 1;
                (3, 8)
            }
            _ => return None,
        };
        let code = self.rest().get(..digits).filter(|code| code.chars().all(|c| c.is_digit(radix)))?;
        let c = char::from_u32(u32::from_str_radix(code, radix).ok()?)?;
        self.at += digits;
        Some(c)
    }
}

fn misread(at: usize, message: impl Into<String>) -> Misread {
    Misread { at, message: message.into() }
}
