//! Pages of a list: every listing of every crate is cut the same way.

use serde::Serialize;

/// The page asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The most rows, 1 to [`Page::LIMIT`].
    pub limit: u32,
    /// Where the page before ended: its [`Paged::next`], as it was given. The first page has none.
    pub cursor: Option<String>,
}

impl Page {
    /// The most rows of one page.
    pub const LIMIT: u32 = 1_000;

    /// The first page with at most `limit` rows.
    pub fn first(limit: u32) -> Self {
        Self { limit: limit.clamp(1, Self::LIMIT), cursor: None }
    }
}

/// A page of rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Paged<T> {
    /// The rows, newest first.
    pub items: Vec<T>,
    /// The cursor of the next page; missing on the last.
    pub next: Option<String>,
}

impl<T> Paged<T> {
    /// A page from up to `limit + 1` rows: the row too many shows that there is a next page, which begins after the
    /// last row kept.
    pub fn cut(mut rows: Vec<T>, page: &Page, cursor: impl FnOnce(&T) -> String) -> Self {
        let limit = page.limit as usize;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = if more { rows.last().map(cursor) } else { None };
        Self { items: rows, next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_a_next_one_only_when_a_row_is_left() {
        let check = |rows: Vec<u32>, expect: (Vec<u32>, Option<&str>)| {
            let page = Paged::cut(rows, &Page::first(2), u32::to_string);
            assert_eq!((page.items, page.next.as_deref()), expect);
        };
        check(vec![], (vec![], None));
        check(vec![9, 8], (vec![9, 8], None));
        check(vec![9, 8, 7], (vec![9, 8], Some("8")));
    }
}
