//! Bytes to text, as senders write them: UTF-8 with or without a byte order mark, UTF-16, or one of the Latin
//! character sets.
//!
//! The label is a hint and the body decides: valid UTF-8 is read as UTF-8, whatever `charset` says.

use std::borrow::Cow;

/// A body as text.
pub(crate) struct Decoded<'a> {
    pub text: Cow<'a, str>,
    /// The bytes are not this text in plain UTF-8.
    pub repaired: bool,
}

/// The bytes are not UTF-8, and the declared character set is not supported.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotText {
    /// The first byte that is not UTF-8.
    pub offset: usize,
}

/// Reads a body as text. `content_type` is the declared one, see [`decode_bytes`].
pub(crate) fn decode<'a>(bytes: &'a [u8], content_type: Option<&str>) -> Result<Decoded<'a>, NotText> {
    let repaired = |text: String| Ok(Decoded { text: Cow::Owned(text), repaired: true });
    match bytes {
        [0xef, 0xbb, 0xbf, rest @ ..] => {
            decode_bytes(rest, content_type).map(|decoded| Decoded { repaired: true, ..decoded })
        }
        // UTF-16 by its byte order mark or, since no text starts with NUL, by the position of the zero byte.
        [0xff, 0xfe, rest @ ..] => repaired(utf_16(rest, u16::from_le_bytes)),
        [0xfe, 0xff, rest @ ..] => repaired(utf_16(rest, u16::from_be_bytes)),
        [1..=255, 0, ..] => repaired(utf_16(bytes, u16::from_le_bytes)),
        [0, 1..=255, ..] => repaired(utf_16(bytes, u16::from_be_bytes)),
        _ => decode_bytes(bytes, content_type),
    }
}

/// Reads bytes as text in a character set whose characters are bytes, or UTF-8. `content_type` is consulted only for
/// bytes that are not UTF-8; with no `charset` in it, or UTF-8, each byte that is not UTF-8 is read as windows-1252, as
/// browsers do.
pub(crate) fn decode_bytes<'a>(bytes: &'a [u8], content_type: Option<&str>) -> Result<Decoded<'a>, NotText> {
    let repaired = |text: String| Ok(Decoded { text: Cow::Owned(text), repaired: true });
    let error = match std::str::from_utf8(bytes) {
        Ok(text) => return Ok(Decoded { text: Cow::Borrowed(text), repaired: false }),
        Err(error) => error,
    };
    match content_type.and_then(charset).as_deref() {
        None | Some("utf-8" | "utf8" | "us-ascii" | "ascii") => {
            let chunks = bytes.utf8_chunks();
            let text = chunks.fold(String::with_capacity(bytes.len() * 2), |mut text, chunk| {
                text.push_str(chunk.valid());
                text.extend(chunk.invalid().iter().map(|byte| windows_1252(*byte)));
                text
            });
            repaired(text)
        }
        // The label ISO-8859-1 means windows-1252 (WHATWG Encoding, section 4.2).
        Some(
            "iso-8859-1" | "iso8859-1" | "iso_8859-1" | "latin1" | "latin-1" | "windows-1252" | "cp1252"
            | "cp-1252" | "x-cp1252" | "ansi",
        ) => repaired(bytes.iter().map(|byte| windows_1252(*byte)).collect()),
        Some("iso-8859-15" | "iso8859-15" | "iso_8859-15" | "latin9" | "latin-9") => {
            repaired(bytes.iter().map(|byte| iso_8859_15(*byte)).collect())
        }
        Some(_) => Err(NotText { offset: error.valid_up_to() }),
    }
}

/// The `charset` of a content type, in lower case.
fn charset(content_type: &str) -> Option<String> {
    let lower = content_type.to_ascii_lowercase();
    let (_, value) = lower.split_once("charset=")?;
    let value = value.trim_start_matches(['"', '\'', ' ']);
    let end = value.find(['"', '\'', ' ', ';', ',']).unwrap_or(value.len());
    (end > 0).then(|| value[..end].to_owned())
}

fn utf_16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> String {
    // A trailing odd byte is half a character.
    let units = bytes.chunks(2).map(|pair| pair.try_into().map_or(0xfffd, unit));
    char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

/// WHATWG Encoding, index windows-1252. Unassigned bytes are the C1 control of the same number.
fn windows_1252(byte: u8) -> char {
    const FROM_80: [char; 32] = [
        '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}',
        '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
    ];
    match byte {
        0x80..=0x9f => FROM_80[usize::from(byte) - 0x80],
        byte => char::from(byte),
    }
}

/// WHATWG Encoding, index iso-8859-15.
fn iso_8859_15(byte: u8) -> char {
    match byte {
        0xa4 => '€',
        0xa6 => 'Š',
        0xa8 => 'š',
        0xb4 => 'Ž',
        0xb8 => 'ž',
        0xbc => 'Œ',
        0xbd => 'œ',
        0xbe => 'Ÿ',
        byte => char::from(byte),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_in_the_character_set_that_it_is_written_in() {
        let check = |bytes: &[u8], content_type: Option<&str>, expect: Result<(&str, bool), usize>| {
            let got =
                decode(bytes, content_type).map(|decoded| (decoded.text.into_owned(), decoded.repaired));
            let expect = expect.map(|(text, repaired)| (text.to_owned(), repaired));
            assert_eq!(got.map_err(|error| error.offset), expect, "{bytes:x?} as {content_type:?}");
        };
        let latin = Some("application/json; charset=ISO-8859-1");
        check("ação".as_bytes(), None, Ok(("ação", false)));
        check("ação".as_bytes(), latin, Ok(("ação", false)));
        check(b"", None, Ok(("", false)));
        check(b"\xef\xbb\xbfa\xc3\xa7", None, Ok(("aç", true)));
        check(b"\xef\xbb\xbfa\xe7", None, Ok(("aç", true)));
        check(b"a\xe7\xe3o", latin, Ok(("ação", true)));
        check(b"a\xe7\xe3o", None, Ok(("ação", true)));
        check(b"a\xe7\xe3o", Some("text/plain; charset=UTF-8"), Ok(("ação", true)));
        check(b"\x80 \x93x\x94", Some("application/json;charset=\"windows-1252\""), Ok(("€ “x”", true)));
        check(b"\xa4", Some("application/json, charset=iso-8859-15; v=1"), Ok(("€", true)));
        // A truncated character does not affect the others.
        check(b"a\xc3\xa7\xc3\xa3o \xc3", None, Ok(("ação Ã", true)));
        // Two bytes that are valid UTF-8 by accident, in a text with another declared character set.
        check(b"N\xc3\xba \xe7", latin, Ok(("NÃº ç", true)));
        check(b"\xff\xfe{\0}\0", None, Ok(("{}", true)));
        check(b"\xfe\xff\0{\0\xe7", None, Ok(("{ç", true)));
        check(b"{\0\x3d\xd8\0\xde", Some("application/json; charset=utf-16le"), Ok(("{😀", true)));
        check(b"\0{\xd8\x3d\0}", None, Ok(("{\u{fffd}}", true)));
        check(b"{\0}", None, Ok(("{\u{fffd}", true)));
        check(b"ab\x83\x4a", Some("application/json; charset=Shift_JIS"), Err(2));
    }
}
