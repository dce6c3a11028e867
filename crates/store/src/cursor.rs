//! Cursors: the key of the last row of a page as one opaque text; the next page begins after it.

/// The cursor of a key: its parts, separated by colons. Only the last may contain one.
pub fn write(key: &[String]) -> String {
    key.join(":")
}

/// The key in a cursor, with this many parts; missing parts of an invalid cursor are empty.
pub fn read(cursor: &str, parts: usize) -> impl Iterator<Item = &str> {
    cursor.splitn(parts, ':').chain(std::iter::repeat("")).take(parts)
}
