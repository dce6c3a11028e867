//! Lists of one table: filtered, newest first, read page by page.

use sqlx::Row;
use sqlx::any::AnyRow;

use crate::{Connection, Page, Paged, StoreError, sql};

/// A list: what is read, and the key that gives it a stable order.
#[derive(Clone, Copy, Debug)]
pub struct List {
    /// `SELECT … FROM …`, without conditions. The columns of `key` are among the columns read.
    pub select: &'static str,
    /// Two `TEXT` columns that identify a row together and never change. Rows are sorted by them, the greatest first.
    /// The first holds no colon.
    pub key: [&'static str; 2],
}

impl List {
    /// The page of those rows in which each named column equals its value, where one is given. Column names come
    /// from the source, never from a request. A cursor that no page gave just begins somewhere.
    pub async fn page<T>(
        &self,
        connection: &mut Connection,
        equal: &[(&'static str, Option<&str>)],
        page: &Page,
        read: fn(&AnyRow) -> Result<T, sqlx::Error>,
    ) -> Result<Paged<T>, StoreError> {
        let [first, second] = self.key;
        let mut values = Vec::new();
        let mut conditions = Vec::new();
        for (column, value) in equal {
            if let Some(value) = value {
                values.push(*value);
                conditions.push(format!("{column} = ${}", values.len()));
            }
        }
        if let Some(cursor) = &page.cursor {
            let (before, and) = cursor.split_once(':').unwrap_or((cursor, ""));
            values.extend([before, and]);
            let n = values.len();
            conditions.push(format!("({first}, {second}) < (${}, ${n})", n - 1));
        }
        let condition = match conditions.is_empty() {
            true => String::new(),
            false => format!(" WHERE {}", conditions.join(" AND ")),
        };
        let mut query = sql::assembled(format!(
            "{}{condition} ORDER BY {first} DESC, {second} DESC LIMIT {}",
            self.select,
            u64::from(page.limit) + 1
        ));
        for value in values {
            query = query.bind(value.to_owned());
        }
        let rows = query.fetch_all(&mut *connection).await?;
        let cursor = |row: &AnyRow| -> Result<String, sqlx::Error> {
            Ok(format!("{}:{}", row.try_get::<String, _>(first)?, row.try_get::<String, _>(second)?))
        };
        let limit = page.limit as usize;
        let next = match rows.len() > limit {
            true => rows.get(limit.saturating_sub(1)).map(cursor).transpose()?,
            false => None,
        };
        let items = rows.iter().take(limit).map(read).collect::<Result<_, _>>()?;
        Ok(Paged { items, next })
    }
}
