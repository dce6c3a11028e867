//! Statements: one text for both databases.

use std::fmt::Write;

use sqlx::any::AnyArguments;
use sqlx::query::{Query, QueryScalar};
use sqlx::{Any, AssertSqlSafe, SqlSafeStr};

/// A statement written out in the source.
pub fn query<'q>(sql: &'static str) -> Query<'q, Any, AnyArguments> {
    sqlx::query(sql)
}

/// A statement put together at run time: from parts written out in the source, never from a value.
pub fn assembled<'q>(sql: String) -> Query<'q, Any, AnyArguments> {
    sqlx::query(AssertSqlSafe(sql).into_sql_str())
}

/// The same with all its arguments.
pub(crate) fn assembled_with<'q>(sql: String, arguments: AnyArguments) -> Query<'q, Any, AnyArguments> {
    sqlx::query_with(AssertSqlSafe(sql).into_sql_str(), arguments)
}

/// A statement that gives one value.
pub fn scalar<'q, T>(sql: &'static str) -> QueryScalar<'q, Any, T, AnyArguments>
where
    (T,): for<'r> sqlx::FromRow<'r, sqlx::any::AnyRow>,
{
    sqlx::query_scalar(sql)
}

/// `($1, $2), ($3, $4)` for two rows of two columns: the tail of a many-row `INSERT … VALUES`.
///
/// Either database takes at least 32,766 parameters in one statement (SQLite's default limit).
pub fn rows(rows: usize, columns: usize) -> String {
    let mut text = String::with_capacity(rows * columns * 7);
    for row in 0..rows {
        text.push_str(if row == 0 { "(" } else { "), (" });
        for column in 0..columns {
            let comma = if column == 0 { "" } else { ", " };
            write!(text, "{comma}${}", 1 + row * columns + column).expect("a string takes every write");
        }
    }
    text.push(')');
    text
}

/// `(?, ?), (?, ?)`: the same for SQLite alone, which looks through all names of parameters for the name of each.
pub(crate) fn nameless_rows(rows: usize, columns: usize) -> String {
    let row = format!("({}), ", vec!["?"; columns].join(", "));
    let mut text = row.repeat(rows);
    text.truncate(text.len() - 2);
    text
}

/// `$3, $4, $5` for three values from the third parameter on: the inside of `IN (…)`.
pub fn list(first: usize, values: usize) -> String {
    (first..first + values).map(|n| format!("${n}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::{list, nameless_rows, rows};

    #[test]
    fn parameters_are_numbered_through() {
        assert_eq!(rows(2, 2), "($1, $2), ($3, $4)");
        assert_eq!(nameless_rows(2, 2), "(?, ?), (?, ?)");
        assert_eq!(list(3, 3), "$3, $4, $5");
    }
}
