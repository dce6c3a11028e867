//! Rows of JSON as a table that people like to read.
//!
//! Promises plain text when standard output is not a terminal or `NO_COLOR` is set, and on a terminal one line for
//! each row. Knows forms of values, not what the rows mean.

use std::io::IsTerminal;

use comfy_table::presets::NOTHING;
use comfy_table::{
    Attribute, Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, LineStyle, Row, Table, Width,
};
use serde_json::Value;

use view::{Column, Form};

/// The text of a table, with a line's end after each row. Where a terminal is too narrow for it, each row becomes
/// lines of title and value.
pub fn text(table: &view::Table) -> String {
    if terminal_width().is_some_and(|width| least_width(table) > usize::from(width)) {
        return in_lines(table);
    }
    let mut lines = Lines::new(&table.columns.iter().map(|(title, _)| *title).collect::<Vec<_>>());
    for (index, (_, form)) in table.columns.iter().enumerate() {
        if matches!(form, Form::Number | Form::Money | Form::Count) {
            lines.align_right(index);
        }
        if is_whole(*form) {
            lines.keep_whole(index);
        }
    }
    for row in &table.rows {
        lines.add(cells(table, row).map(|(_, form, value)| (written(form, value), colour(form, value))));
    }
    lines.to_string()
}

/// The text of these rows in these columns.
pub fn of_rows<'a, R: 'a>(columns: &[Column<R>], rows: impl IntoIterator<Item = &'a R>) -> String {
    text(&view::Table::new(columns, rows))
}

/// Each value of a row with the title of its column, and how it is written.
fn cells<'a>(
    table: &'a view::Table,
    row: &'a [Value],
) -> impl Iterator<Item = (&'static str, Form, &'a Value)> {
    table.columns.iter().zip(row).map(|((title, form), value)| (*title, *form, value))
}

/// Whether values of this form are never cut.
fn is_whole(form: Form) -> bool {
    matches!(form, Form::Id | Form::Time | Form::State)
}

/// How many characters a column needs that may be cut.
const LEAST_TEXT: usize = 12;

/// The width below which a table tells too little.
fn least_width(table: &view::Table) -> usize {
    let of_column = |(index, (title, form)): (usize, &(&str, Form))| {
        let lengths = table.rows.iter().map(|row| written(*form, &row[index]).chars().count());
        let longest = lengths.max().unwrap_or(0);
        let least = if is_whole(*form) { longest } else { longest.min(LEAST_TEXT) };
        least.max(title.chars().count()) + 2
    };
    table.columns.iter().enumerate().map(of_column).sum::<usize>().saturating_sub(2)
}

/// Each row as lines of title and value, without what is missing.
fn in_lines(table: &view::Table) -> String {
    let width = table.columns.iter().map(|(title, _)| title.chars().count()).max().unwrap_or(0);
    let of_row = |row: &Vec<Value>| {
        let lines = cells(table, row).filter(|(.., value)| !value.is_null()).map(|(title, form, value)| {
            let text = written(form, value).replace(['\n', '\r', '\t'], " ");
            format!("{title:width$}  {text}").trim_end().to_owned() + "\n"
        });
        lines.collect::<String>()
    };
    table.rows.iter().map(of_row).collect::<Vec<_>>().join("\n")
}

/// A table that is filled line by line.
pub struct Lines(Table);

impl Lines {
    /// An empty table with these titles.
    pub fn new(titles: &[&str]) -> Self {
        let mut table = Table::new();
        let style = NOTHING.header_separator(LineStyle::none().fill('─').junction('─'));
        table.load_style(style).set_content_arrangement(ContentArrangement::Dynamic);
        if !coloured() {
            table.force_no_tty();
        }
        if let Some(width) = terminal_width() {
            table.set_width(width);
        }
        table.set_header(titles.iter().map(|title| Cell::new(title).add_attribute(Attribute::Bold)));
        for (column, title) in table.column_iter_mut().zip(titles) {
            let whole_title = Width::Fixed(u16::try_from(title.chars().count() + 2).unwrap_or(u16::MAX));
            column.set_padding((0, 2)).set_constraint(ColumnConstraint::LowerBoundary(whole_title));
        }
        Self(table)
    }

    /// Never cuts what is in a column.
    pub fn keep_whole(&mut self, index: usize) {
        if let Some(column) = self.0.column_mut(index) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }

    /// Writes a column at the right edge.
    pub fn align_right(&mut self, index: usize) {
        if let Some(column) = self.0.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }

    /// Adds a line of texts, some with a colour.
    pub fn add(&mut self, cells: impl IntoIterator<Item = (String, Option<Color>)>) {
        let cells = cells.into_iter().map(|(text, colour)| {
            let cell = Cell::new(text.replace(['\n', '\r', '\t'], " "));
            match colour {
                Some(colour) => cell.fg(colour),
                None => cell,
            }
        });
        let mut row = Row::from(cells.collect::<Vec<_>>());
        row.max_height(1);
        self.0.add_row(row);
    }

    /// Adds a line of plain texts.
    pub fn add_texts(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        self.add(cells.into_iter().map(|cell| (cell.into(), None)));
    }
}

impl std::fmt::Display for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.lines().try_for_each(|line| writeln!(f, "{}", line.trim_end()))
    }
}

/// Whether standard output takes colours.
pub fn coloured() -> bool {
    std::io::stdout().is_terminal() && !is_colour_unwanted()
}

/// Whether the environment says so: <https://no-color.org>.
pub fn is_colour_unwanted() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// The width of the terminal, or the one that `COLUMNS` gives it.
fn terminal_width() -> Option<u16> {
    if !std::io::stdout().is_terminal() {
        return None;
    }
    let given = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    given.filter(|width| *width > 0).or_else(|| Table::new().width())
}

/// A value in its form; what is missing is empty, where the form says nothing else.
pub fn written(form: Form, value: &Value) -> String {
    let plain = || match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match form {
        Form::Text | Form::Id | Form::Number | Form::State => plain(),
        Form::Money if value.is_null() => "–".to_owned(),
        Form::Money => value.as_i64().map_or_else(plain, money),
        Form::Time => value.as_str().and_then(|text| text.parse().ok()).map_or_else(plain, time),
        Form::TaxId => tax_id(&plain()),
        Form::Flag => if value.as_bool() == Some(true) { "yes" } else { "" }.to_owned(),
        Form::Count => value.as_array().map_or_else(plain, |items| items.len().to_string()),
        Form::States => value.as_object().map_or_else(plain, |states| {
            let each =
                states.iter().map(|(name, state)| format!("{name} {}", state.as_str().unwrap_or_default()));
            each.collect::<Vec<_>>().join(", ")
        }),
        Form::Eye => value.as_object().map_or_else(plain, |eye| {
            let part = |name: &str| match eye.get(name) {
                Some(Value::String(text)) => text.clone(),
                Some(value) if !value.is_null() => value.to_string(),
                _ => "–".to_owned(),
            };
            format!(
                "sph {} cyl {} × {}° add {}",
                part("spherical"),
                part("cylindrical"),
                part("axis"),
                part("add")
            )
        }),
    }
}

fn colour(form: Form, value: &Value) -> Option<Color> {
    if !matches!(form, Form::State | Form::States) || !coloured() {
        return None;
    }
    let text = value.to_string();
    let any = |states: &[&str]| states.iter().any(|state| text.contains(&format!("\"{state}\"")));
    if any(&["dead", "canceled", "rejected"]) {
        Some(Color::Red)
    } else if any(&["pending", "open", "active", "in_analysis", "unrouted"]) {
        Some(Color::Yellow)
    } else if any(&["handled", "routed", "paid", "settled", "renewed"]) {
        Some(Color::Green)
    } else {
        None
    }
}

/// `46020` as `460.20`.
fn money(centavos: i64) -> String {
    let (sign, absolute) = (if centavos < 0 { "-" } else { "" }, centavos.unsigned_abs());
    format!("{sign}{}.{:02}", absolute / 100, absolute % 100)
}

fn time(time: event::Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

fn tax_id(text: &str) -> String {
    let bare: Vec<char> = text.chars().filter(char::is_ascii_alphanumeric).collect();
    let part = |from: usize, to: usize| bare[from..to].iter().collect::<String>();
    match bare.len() {
        11 => format!("{}.{}.{}-{}", part(0, 3), part(3, 6), part(6, 9), part(9, 11)),
        14 => format!("{}.{}.{}/{}-{}", part(0, 2), part(2, 5), part(5, 8), part(8, 12), part(12, 14)),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use view::column;

    use super::*;

    #[test]
    fn each_form_is_written_as_people_read_it() {
        let check = |form, value: Value, expect: &str| assert_eq!(written(form, &value), expect, "{value}");
        check(Form::Money, json!(46020), "460.20");
        check(Form::Money, json!(-5), "-0.05");
        check(Form::Money, Value::Null, "–");
        check(Form::Time, json!("2026-11-22T16:01:34.123456Z"), "2026-11-22 16:01:34Z");
        check(Form::TaxId, json!("52998224725"), "529.982.247-25");
        check(Form::TaxId, json!("12ABC34501DE35"), "12.ABC.345/01DE-35");
        check(Form::TaxId, json!("123"), "123");
        check(Form::Flag, json!(true), "yes");
        check(Form::Flag, json!(false), "");
        check(Form::Count, json!(["a", "b"]), "2");
        check(
            Form::States,
            json!({"invoices": "handled", "receivables": "dead"}),
            "invoices handled, receivables dead",
        );
        check(
            Form::Eye,
            json!({"spherical": -0.75, "cylindrical": 0, "axis": 0, "add": null}),
            "sph -0.75 cyl 0 × 0° add –",
        );
    }

    #[test]
    fn rows_that_no_terminal_is_wide_enough_for_become_lines() {
        let table = view::Table {
            columns: vec![("Id", Form::Id), ("Error", Form::Text)],
            rows: vec![
                vec![json!("0123456789"), json!("a long\ntext of an error")],
                vec![json!("1"), Value::Null],
            ],
        };
        assert_eq!(least_width(&table), 10 + 2 + 12);
        let expect = "Id     0123456789\nError  a long text of an error\n\nId     1\n";
        assert_eq!(in_lines(&table), expect);
    }

    #[test]
    fn numbers_are_aligned_and_no_line_ends_in_spaces() {
        let columns: [Column<(&str, i64)>; 2] =
            [column("Id", |row| row.0.into(), Form::Text), column("Amount", |row| row.1.into(), Form::Money)];
        let table = of_rows(&columns, &[("1", 46020), ("22", 5)]);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 4, "{table}");
        assert!(lines[2].ends_with("460.20") && lines[3].ends_with("  0.05"), "{table}");
        assert_eq!(lines[2].len(), lines[3].len(), "{table}");
    }
}
