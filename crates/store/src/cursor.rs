//! Cursors: the key of a page's last row as one opaque text, in which the next page begins.

/// The cursor of a key: its parts, parted by colons. Only the last may hold one.
pub fn write(key: &[String]) -> String {
    key.join(":")
}

/// The key in a cursor, which has so many parts; what a text that no page gave lacks is empty.
pub fn read(cursor: &str, parts: usize) -> impl Iterator<Item = &str> {
    cursor.splitn(parts, ':').chain(std::iter::repeat("")).take(parts)
}
