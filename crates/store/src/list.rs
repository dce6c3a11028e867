//! Lists: filtered, in the order of a key, read page by page.

use sqlx::Row;
use sqlx::any::AnyRow;

use crate::many::{Value, fetch};
use crate::{Connection, Page, Paged, StoreError, cursor, id, id_bound};

/// Conditions joined by `AND`, and the values that they name. Their texts come from the source, never from a request.
#[derive(Default)]
pub struct Conditions {
    texts: Vec<String>,
    alternatives: Vec<String>,
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

    /// Conditions of which one has to hold, and no row fulfils two. Each can be looked up by itself in an index.
    pub fn one_of(&mut self, alternatives: Vec<String>) {
        self.alternatives = alternatives;
    }

    /// The tail of a statement: nothing, or `WHERE …`.
    pub fn clause(&self) -> String {
        let mut texts = self.texts.clone();
        if !self.alternatives.is_empty() {
            texts.push(format!("({})", self.alternatives.join(" OR ")));
        }
        clause(&texts)
    }

    /// `<select> WHERE …`, once for each alternative, joined by `UNION ALL`. Sorted by columns that an index has behind each
    /// alternative's, both databases merge the parts as they read them.
    pub fn union(&self, select: &str) -> String {
        self.selects(select).join(" UNION ALL ")
    }

    /// One statement for each alternative, or one.
    fn selects(&self, select: &str) -> Vec<String> {
        let select = |alternative: Option<&String>| {
            format!("{select} {}", clause(&self.texts.iter().chain(alternative).cloned().collect::<Vec<_>>()))
        };
        match self.alternatives.as_slice() {
            [] => vec![select(None)],
            alternatives => alternatives.iter().map(|one| select(Some(one))).collect(),
        }
    }
}

fn clause(texts: &[String]) -> String {
    match texts {
        [] => String::new(),
        texts => format!("WHERE {}", texts.join(" AND ")),
    }
}

/// A list: what is read, and the key that gives it a stable order.
#[derive(Clone, Copy, Debug)]
pub struct List<'a> {
    /// `SELECT … FROM …`, without conditions.
    pub select: &'a str,
    /// `TEXT` columns that together identify a row and never change, such as `s.event_id`; each is read under its name.
    /// Rows are sorted by them. Only the last may contain a colon.
    pub key: &'a [&'a str],
    /// Whether the least key comes first, and not the greatest.
    pub is_ascending: bool,
    /// Whether the first column of the key is an id instead.
    pub is_by_id: bool,
    /// The text between the conditions and the order: nothing, or `GROUP BY …`.
    pub group: &'a str,
}

impl<'a> List<'a> {
    /// A list of single rows.
    pub const fn new(select: &'a str, key: &'a [&'a str]) -> Self {
        Self { select, key, is_ascending: false, is_by_id: false, group: "" }
    }

    /// A list of single rows whose key begins with an id.
    pub const fn by_id(select: &'a str, key: &'a [&'a str]) -> Self {
        Self { is_by_id: true, ..Self::new(select, key) }
    }

    /// The same list with the least key first.
    pub const fn ascending(self) -> Self {
        Self { is_ascending: true, ..self }
    }

    /// The statement for a page of matching rows and one row more. An invalid cursor just begins somewhere.
    pub fn statement(&self, mut conditions: Conditions, page: &Page) -> (String, Vec<Value>) {
        let Self { select, key, is_ascending, is_by_id, group } = self;
        let (before, direction) = if *is_ascending { (">", "") } else { ("<", " DESC") };
        if let Some(cursor) = &page.cursor {
            let value = |(at, part)| if *is_by_id && at == 0 { id_bound(part) } else { Value::from(part) };
            let parts = cursor::read(cursor, key.len()).enumerate().map(value);
            let parts: Vec<_> = parts.map(|value| conditions.bind(value)).collect();
            conditions.add(format!("({}) {before} ({})", key.join(", "), parts.join(", ")));
        }
        let order = |is_outer: bool| {
            let shown =
                |column: &&str| format!("{}{direction}", if is_outer { name(column) } else { column });
            key.iter().map(shown).collect::<Vec<_>>().join(", ")
        };
        let limit = u64::from(page.limit) + 1;
        let page_of = |select: &str| format!("{select} {group} ORDER BY {} LIMIT {limit}", order(false));
        let selects = conditions.selects(select);
        let text = match selects.as_slice() {
            [one] => page_of(one),
            // Each by itself: PostgreSQL would else read all rows of each, and sort them.
            several => {
                let parts = several
                    .iter()
                    .zip(1..)
                    .map(|(select, n)| format!("SELECT * FROM ({}) a{n}", page_of(select)));
                let all = parts.collect::<Vec<_>>().join(" UNION ALL ");
                format!("{all} ORDER BY {} LIMIT {limit}", order(true))
            }
        };
        (text, conditions.values)
    }

    /// The page of the rows that its statement returned. Its cursor is the key of its last row.
    pub fn cut<T, E: Into<StoreError>>(
        &self,
        rows: &[AnyRow],
        page: &Page,
        read: impl Fn(&AnyRow) -> Result<T, E>,
    ) -> Result<Paged<T>, StoreError> {
        let cursor = |row: &AnyRow| {
            let part = |(at, column): (usize, &&str)| match self.is_by_id && at == 0 {
                true => Ok(id(row, name(column))?.to_string()),
                false => Ok(row.try_get::<String, _>(name(column))?),
            };
            let parts = self.key.iter().enumerate().map(part);
            Ok::<_, StoreError>(cursor::write(&parts.collect::<Result<Vec<_>, StoreError>>()?))
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

/// The name of a column such as `s.event_id` in a row.
fn name(column: &str) -> &str {
    column.rsplit('.').next().unwrap_or_default()
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

    #[test]
    fn an_ascending_list_goes_on_with_greater_keys() {
        let page = Page { limit: 2, cursor: Some("b".to_owned()) };
        let list = List::new("SELECT x FROM t", &["t.id"]).ascending();
        let (text, _) = list.statement(Conditions::default(), &page);
        assert_eq!(text, "SELECT x FROM t WHERE (t.id) > ($1)  ORDER BY t.id LIMIT 3");
    }

    #[test]
    fn alternatives_are_read_one_by_one_in_one_order() {
        let mut conditions = Conditions::default();
        conditions.add("t.x = 1");
        conditions.one_of(vec!["t.y = 2".to_owned(), "t.y = 3".to_owned()]);
        assert_eq!(conditions.clause(), "WHERE t.x = 1 AND (t.y = 2 OR t.y = 3)");
        let (text, _) = List::by_id("SELECT t.id FROM t", &["t.id"]).statement(conditions, &Page::first(1));
        let part = |y: i32, n: i32| {
            format!(
                "SELECT * FROM (SELECT t.id FROM t WHERE t.x = 1 AND t.y = {y}  ORDER BY t.id DESC LIMIT 2) a{n}"
            )
        };
        assert_eq!(text, format!("{} UNION ALL {} ORDER BY id DESC LIMIT 2", part(2, 1), part(3, 2)));
    }
}
