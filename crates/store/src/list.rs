//! Lists: filtered, newest first, read page by page.

use sqlx::Row;
use sqlx::any::AnyRow;

use crate::many::{Value, fetch};
use crate::{Connection, Page, Paged, StoreError, cursor};

/// Conditions joined by `AND`, and the values that they name. Their texts come from the source, never from a request.
#[derive(Default)]
pub struct Conditions {
    texts: Vec<String>,
    /// The values of the parameters `$1`, `$2`, ….
    pub values: Vec<Value>,
}

impl Conditions {
    /// A condition without a value.
    pub fn add(&mut self, text: impl Into<String>) {
        self.texts.push(text.into());
    }

    /// A condition that ends with a value, if there is one: `source =`.
    pub fn with(&mut self, text: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            let parameter = self.bind(value.into());
            self.add(format!("{text} {parameter}"));
        }
    }

    /// The parameter of a value that is used outside the conditions, or as a part of one.
    pub fn bind(&mut self, value: Value) -> String {
        self.values.push(value);
        format!("${}", self.values.len())
    }

    /// The tail of a statement: nothing, or `WHERE …`.
    pub fn clause(&self) -> String {
        match self.texts.as_slice() {
            [] => String::new(),
            texts => format!("WHERE {}", texts.join(" AND ")),
        }
    }
}

/// A list: what is read, and the key that gives it a stable order.
#[derive(Clone, Copy, Debug)]
pub struct List<'a> {
    /// `SELECT … FROM …`, without conditions.
    pub select: &'a str,
    /// `TEXT` columns that together identify a row and never change, such as `s.event_id`; each is read under its name.
    /// Rows are sorted by them in descending order. Only the last may contain a colon.
    pub key: &'a [&'a str],
    /// The text between the conditions and the order: nothing, or `GROUP BY …`.
    pub group: &'a str,
}

impl<'a> List<'a> {
    /// A list of single rows.
    pub const fn new(select: &'a str, key: &'a [&'a str]) -> Self {
        Self { select, key, group: "" }
    }

    /// The statement for a page of matching rows and one row more. An invalid cursor just begins somewhere.
    pub fn statement(&self, mut conditions: Conditions, page: &Page) -> (String, Vec<Value>) {
        let Self { select, key, group } = self;
        if let Some(cursor) = &page.cursor {
            let parts = cursor::read(cursor, key.len());
            let parts: Vec<_> = parts.map(|part| conditions.bind(Value::from(part))).collect();
            conditions.add(format!("({}) < ({})", key.join(", "), parts.join(", ")));
        }
        let clause = conditions.clause();
        let order = key.iter().map(|column| format!("{column} DESC")).collect::<Vec<_>>().join(", ");
        let limit = u64::from(page.limit) + 1;
        (format!("{select} {clause} {group} ORDER BY {order} LIMIT {limit}"), conditions.values)
    }

    /// The page of the rows that its statement returned. Its cursor is the key of its last row.
    pub fn cut<T, E: Into<StoreError>>(
        &self,
        rows: &[AnyRow],
        page: &Page,
        read: impl Fn(&AnyRow) -> Result<T, E>,
    ) -> Result<Paged<T>, StoreError> {
        let cursor = |row: &AnyRow| {
            let names = self.key.iter().map(|column| column.rsplit('.').next().unwrap_or_default());
            let parts = names.map(|name| row.try_get::<String, _>(name)).collect::<Result<Vec<_>, _>>()?;
            Ok::<_, StoreError>(cursor::write(&parts))
        };
        let limit = page.limit as usize;
        let next = match rows.len() > limit {
            true => rows.get(limit.saturating_sub(1)).map(cursor).transpose()?,
            false => None,
        };
        let items = rows.iter().take(limit).map(|row| read(row).map_err(Into::into));
        Ok(Paged { items: items.collect::<Result<_, _>>()?, next })
    }

    /// The page of matching rows.
    pub async fn page<T, E: Into<StoreError>>(
        &self,
        connection: &mut Connection,
        conditions: Conditions,
        page: &Page,
        read: impl Fn(&AnyRow) -> Result<T, E>,
    ) -> Result<Paged<T>, StoreError> {
        let (text, values) = self.statement(conditions, page);
        let rows = fetch(connection, text, values).await?;
        self.cut(&rows, page, read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_number_their_values_through() {
        let mut conditions = Conditions::default();
        assert_eq!(conditions.clause(), "");
        conditions.with("source =", Some(&"a"));
        conditions.with("topic =", None::<&String>);
        conditions.add("1 = 1");
        conditions.with("id <", Some(&"b"));
        assert_eq!(conditions.clause(), "WHERE source = $1 AND 1 = 1 AND id < $2");
        assert_eq!(conditions.bind(5.into()), "$3");
    }

    #[test]
    fn a_page_begins_behind_the_key_in_its_cursor() {
        let check = |key: &[&str], cursor: &str, expect: &str, values: &[&str]| {
            let mut conditions = Conditions::default();
            conditions.with("source =", Some(&"a"));
            let page = Page { limit: 2, cursor: Some(cursor.to_owned()) };
            let (text, given) = List::new("SELECT x FROM t", key).statement(conditions, &page);
            assert_eq!(text.split_whitespace().collect::<Vec<_>>().join(" "), expect);
            assert_eq!(given[1..], values.iter().map(|value| Value::from(*value)).collect::<Vec<_>>());
        };
        let one = "SELECT x FROM t WHERE source = $1 AND (t.id) < ($2) ORDER BY t.id DESC LIMIT 3";
        check(&["t.id"], "1:b", one, &["1:b"]);
        let two = "SELECT x FROM t WHERE source = $1 AND (a, b) < ($2, $3) ORDER BY a DESC, b DESC LIMIT 3";
        check(&["a", "b"], "1:b:c", two, &["1", "b:c"]);
        check(&["a", "b"], "1", two, &["1", ""]);
    }
}
