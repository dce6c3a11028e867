//! Rust sources as tokens: as much of the language as the rules need.

/// The tokens of a source, each with its line: words, `::` and single signs, without comments and
/// literals.
pub fn tokens(text: &str) -> Vec<(&str, usize)> {
    let mut tokens = Vec::new();
    let (mut rest, mut line) = (text, 1);
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            '"' => 1 + string_length(&rest[1..]),
            '\'' => character_length(rest),
            'r' if raw_length(rest).is_some() => raw_length(rest).unwrap_or(1),
            _ => 0,
        };
        let length = if length > 0 {
            length
        } else {
            let is_word = |c: char| c.is_alphanumeric() || c == '_';
            let length = match first {
                ':' if rest.starts_with("::") => 2,
                _ if is_word(first) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
                _ => first.len_utf8(),
            };
            if !first.is_whitespace() {
                tokens.push((&rest[..length], line));
            }
            length
        };
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    tokens
}

/// The length of a string's rest with its closing quote.
fn string_length(rest: &str) -> usize {
    let mut is_escaped = false;
    let end = rest.find(|c| {
        let is_end = c == '"' && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        is_end
    });
    end.map_or(rest.len(), |end| end + 1)
}

/// The length of a character literal; 1 for the sign of a lifetime.
fn character_length(rest: &str) -> usize {
    let mut characters = rest.char_indices().skip(1);
    match (characters.next(), characters.next()) {
        (Some((_, '\\')), Some((at, escaped))) => {
            let from = at + escaped.len_utf8();
            rest[from..].find('\'').map_or(rest.len(), |end| from + end + 1)
        }
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 1,
    }
}

/// The length of a raw string; `None` where it is a word that starts with `r`.
fn raw_length(rest: &str) -> Option<usize> {
    let signs = rest[1..].len() - rest[1..].trim_start_matches('#').len();
    let inner = rest[1 + signs..].strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(signs));
    Some(2 + signs + inner.find(&close).map_or(inner.len(), |end| end + close.len()))
}

/// The tokens without every item that is compiled for tests only.
pub fn without_tests(tokens: Vec<(&str, usize)>) -> Vec<(&str, usize)> {
    const TEST: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut rest = &tokens[..];
    while !rest.is_empty() {
        if !rest.iter().map(|(token, _)| *token).take(TEST.len()).eq(TEST) {
            kept.push(rest[0]);
            rest = &rest[1..];
            continue;
        }
        // The item ends with its block, or with a semicolon before one begins.
        let mut depth = 0;
        let end = rest.iter().position(|(token, _)| {
            depth += match *token {
                "{" => 1,
                "}" => -1,
                _ => 0,
            };
            depth == 0 && ["}", ";"].contains(token)
        });
        rest = &rest[end.map_or(rest.len(), |end| end + 1)..];
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token_texts(text: &str) -> Vec<&str> {
        without_tests(tokens(text)).into_iter().map(|(token, _)| token).collect()
    }

    #[test]
    fn tokens_are_words_and_signs_without_comments_and_literals() {
        let check = |text: &str, expect: &[&str]| assert_eq!(token_texts(text), expect, "{text}");
        check("use a::b; // c", &["use", "a", "::", "b", ";"]);
        check("let a = \"\\\"{\";", &["let", "a", "=", ";"]);
        check("let a = r#\"\"{\"#; let raw = 1;", &["let", "a", "=", ";", "let", "raw", "=", "1", ";"]);
        check("'{' '\\'' '\\u{7d}' 'a x", &["a", "x"]);
        check("a /* { */ b", &["a", "b"]);
        assert_eq!(tokens("a\n\"\n\"b").last(), Some(&("b", 3)));
    }

    #[test]
    fn what_is_compiled_for_tests_only_is_left_out() {
        let check = |text: &str, expect: &[&str]| assert_eq!(token_texts(text), expect, "{text}");
        check("#[cfg(test)]\nmod tests { fn a() { {} } }\nb", &["b"]);
        check("#[cfg(test)]\nmod tests;\nb", &["b"]);
    }
}
