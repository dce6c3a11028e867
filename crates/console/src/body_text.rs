//! A body as text for people: indented, and compared line by line with another.

use serde::de::IgnoredAny;

/// The most comparisons of one line with another; beyond, everything between the first and the last difference counts as changed.
const MOST_COMPARISONS: usize = 4_000_000;

/// How many unchanged lines are kept on each side of a change.
const CONTEXT: usize = 3;

/// Stands for unchanged lines that are left out.
const LEFT_OUT: &str = "…";

/// JSON with indentation, otherwise as it came: the order of its fields and the digits of its numbers. Any other text stays.
pub(crate) fn indented(text: &str) -> String {
    if serde_json::from_str::<IgnoredAny>(text).is_err() {
        return text.to_owned();
    }
    let (mut out, mut depth, mut in_string, mut is_escaped) =
        (String::with_capacity(text.len() * 2), 0_usize, false, false);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        if in_string {
            in_string = is_escaped || letter != '"';
            is_escaped = !is_escaped && letter == '\\';
            out.push(letter);
            continue;
        }
        let line = |out: &mut String, depth: usize| {
            out.push('\n');
            out.extend(std::iter::repeat_n("  ", depth));
        };
        match letter {
            ' ' | '\n' | '\r' | '\t' => {}
            '{' | '[' => {
                while letters.next_if(char::is_ascii_whitespace).is_some() {}
                out.push(letter);
                match letters.next_if(|next| matches!(next, '}' | ']')) {
                    Some(end) => out.push(end),
                    None => {
                        depth += 1;
                        line(&mut out, depth);
                    }
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(letter);
            }
            ',' => {
                out.push(letter);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            _ => {
                in_string = letter == '"';
                out.push(letter);
            }
        }
    }
    out
}

/// The lines of both texts: `-` before those of the first alone, `+` before those of the second alone, a space before those of
/// both. Of long unchanged parts the middle is left out.
pub(crate) fn differences(old: &str, new: &str) -> Vec<String> {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let same = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let (rest_old, rest_new) = (&old[same..], &new[same..]);
    let end = rest_old.iter().rev().zip(rest_new.iter().rev()).take_while(|(old, new)| old == new).count();
    let (changed_old, changed_new) = (&rest_old[..rest_old.len() - end], &rest_new[..rest_new.len() - end]);
    let unchanged = |line: &&str| (' ', (*line).to_owned());
    let mut found: Vec<(char, String)> = old[..same].iter().map(unchanged).collect();
    found.extend(changes(changed_old, changed_new));
    found.extend(rest_old[rest_old.len() - end..].iter().map(unchanged));
    shortened(&found)
}

/// The shortest way from the one to the other, by their longest common subsequence.
fn changes(old: &[&str], new: &[&str]) -> Vec<(char, String)> {
    let line = |sign, text: &&str| (sign, (*text).to_owned());
    if old.len().saturating_mul(new.len()) > MOST_COMPARISONS {
        let removed = old.iter().map(|text| line('-', text));
        return removed.chain(new.iter().map(|text| line('+', text))).collect();
    }
    // `common[i][j]`: how many lines `old[i..]` and `new[j..]` have in common.
    let mut common = vec![vec![0_u32; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i][j] = match old[i] == new[j] {
                true => common[i + 1][j + 1] + 1,
                false => common[i + 1][j].max(common[i][j + 1]),
            };
        }
    }
    let (mut i, mut j, mut found) = (0, 0, Vec::new());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            found.push(line(' ', &old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || i < old.len() && common[i + 1][j] >= common[i][j + 1] {
            found.push(line('-', &old[i]));
            i += 1;
        } else {
            found.push(line('+', &new[j]));
            j += 1;
        }
    }
    found
}

fn shortened(found: &[(char, String)]) -> Vec<String> {
    let is_near = |at: usize| {
        let range = at.saturating_sub(CONTEXT)..(at + CONTEXT + 1).min(found.len());
        found[range].iter().any(|(sign, _)| *sign != ' ')
    };
    let mut lines: Vec<String> = Vec::new();
    for (at, (sign, text)) in found.iter().enumerate() {
        if is_near(at) {
            lines.push(format!("{sign}{text}"));
        } else if lines.last().is_none_or(|last| last != LEFT_OUT) {
            lines.push(LEFT_OUT.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_marked_and_what_is_far_from_it_left_out() {
        let check = |old: &str, new: &str, expect: &[&str]| assert_eq!(differences(old, new), expect);
        check("a\nb\nc", "a\nx\nc", &[" a", "-b", "+x", " c"]);
        check("a\nb\nc\nd", "a\nc\nd\ne", &[" a", "-b", " c", " d", "+e"]);
        assert_eq!(indented("<script>"), "<script>");
        check("", "a", &["+a"]);
        check("a", "", &["-a"]);
        check("1\n2\n3\n4\n5\n6", "1\n2\n3\n4\n5\n7", &["…", " 3", " 4", " 5", "-6", "+7"]);
        let many = |end: &str| (0..3000).map(|n| format!("{n}{end}\n")).collect::<String>();
        assert_eq!(differences(&many("a"), &many("b")).len(), 6000);
    }
}
