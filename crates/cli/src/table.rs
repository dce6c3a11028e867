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

use event::EventId;
use view::{Column, Form, Tone};

use crate::local::written;

/// A table as text.
pub struct Text {
    /// With a line's end after each row.
    pub text: String,
    /// The titles of the columns that have no room, in the order in which they were left out.
    pub left_out: Vec<&'static str>,
}

/// The text of a table. Where there is only so much room, ids are shortened and columns left out, in the order that the list
/// declares; if that does not suffice, each row becomes lines of title and value. Nothing is shortened or left out where the
/// output is no terminal and `COLUMNS` is not set.
pub fn text(table: view::Table) -> Text {
    text_within(table, width().map(usize::from))
}

fn text_within(mut table: view::Table, width: Option<usize>) -> Text {
    let mut left_out = Vec::new();
    if let Some(width) = width {
        shorten_ids(&mut table);
        let all = table.droppable();
        let mut count = 0;
        while count < all.len() && least_width(&table, &all[..count]) > width {
            count += 1;
        }
        let dropped = &all[..count];
        if least_width(&table, dropped) > width {
            return Text { text: in_lines(&table), left_out };
        }
        left_out.extend(dropped.iter().map(|index| table.columns[*index].0));
        table = table.without(dropped);
    }
    let mut lines = Lines::within(&table.columns.iter().map(|(title, _)| *title).collect::<Vec<_>>(), width);
    for (index, (_, form)) in table.columns.iter().enumerate() {
        if matches!(form, Form::Number | Form::Money | Form::Count) {
            lines.align_right(index);
        }
        if is_whole(*form) {
            lines.keep_whole(index);
        }
    }
    for row in &table.rows {
        lines.add(cells(&table, row).map(|(_, form, value)| (written(form, value), colour(form, value))));
    }
    Text { text: lines.to_string(), left_out }
}

/// The text of these rows in these columns.
pub fn rows<'a, R: 'a>(columns: &[Column<R>], rows: impl IntoIterator<Item = &'a R>) -> String {
    text(view::Table::new(columns, rows)).text
}

/// The shortest beginning of an id that is shown: its time, and enough to tell events of one millisecond apart.
const SHORT_ID: usize = "0199d3c0-1f2e-7abc".len();

/// Shortens the ids of each column to beginnings that differ where the ids do.
fn shorten_ids(table: &mut view::Table) {
    let is_of_ids = |(_, form): &(&str, Form)| *form == Form::Id;
    let columns: Vec<usize> =
        (0..table.columns.len()).filter(|index| is_of_ids(&table.columns[*index])).collect();
    for index in columns {
        let values = table.rows.iter().map(|row| row[index].as_str());
        let mut ids: Vec<&str> = values.flatten().filter(|text| text.parse::<EventId>().is_ok()).collect();
        ids.sort_unstable();
        ids.dedup();
        let same = |pair: &[&str]| pair[0].bytes().zip(pair[1].bytes()).take_while(|(a, b)| a == b).count();
        let length = ids.windows(2).map(|pair| same(pair) + 1).max().unwrap_or(0).max(SHORT_ID);
        for row in &mut table.rows {
            let id = row[index].as_str().filter(|text| text.parse::<EventId>().is_ok());
            if let Some(short) = id.and_then(|id| id.get(..length)).map(|short| short.trim_end_matches('-')) {
                row[index] = Value::from(short);
            }
        }
    }
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
    matches!(form, Form::Id | Form::Time | Form::State(_))
}

/// How many characters a column needs that may be cut.
const LEAST_TEXT: usize = 10;

/// The width below which a table without these columns shows too little.
fn least_width(table: &view::Table, left_out: &[usize]) -> usize {
    let of_column = |(index, (title, form)): (usize, &(&str, Form))| {
        let lengths = table.rows.iter().map(|row| written(*form, &row[index]).chars().count());
        let longest = lengths.max().unwrap_or(0);
        let least = if is_whole(*form) { longest } else { longest.min(LEAST_TEXT) };
        least.max(title.chars().count()) + 2
    };
    let columns = table.columns.iter().enumerate().filter(|(index, _)| !left_out.contains(index));
    columns.map(of_column).sum::<usize>().saturating_sub(2)
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
        Self::within(titles, width().map(usize::from))
    }

    fn within(titles: &[&str], width: Option<usize>) -> Self {
        let mut table = Table::new();
        let style = NOTHING.header_separator(LineStyle::none().fill('─').junction('─'));
        table.load_style(style).set_content_arrangement(ContentArrangement::Dynamic);
        if !coloured() {
            table.force_no_tty();
        }
        if let Some(width) = width.and_then(|width| u16::try_from(width).ok()) {
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
    is_terminal() && !is_colour_unwanted()
}

/// Whether the environment says so: <https://no-color.org>.
pub fn is_colour_unwanted() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// The room in a line: what `COLUMNS` says, which `watch` sets for what it runs, else the width of the terminal. `None` if the
/// output is no terminal: programs get all of it.
fn width() -> Option<u16> {
    let given = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let of_terminal = || Table::new().width().filter(|_| is_terminal());
    given.filter(|width| *width > 0).or_else(of_terminal)
}

/// Whether a person sees the output as it is written.
pub fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

fn colour(form: Form, value: &Value) -> Option<Color> {
    form.tone(value).filter(|_| coloured()).map(|tone| match tone {
        Tone::Good => Color::Green,
        Tone::Waiting => Color::Yellow,
        Tone::Bad => Color::Red,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use view::{column, dropped};

    use super::*;

    #[test]
    fn rows_that_no_terminal_is_wide_enough_for_become_lines() {
        let table = view::Table {
            columns: vec![("Id", Form::Id), ("Error", Form::Text)],
            drop_orders: vec![0, 0],
            rows: vec![
                vec![json!("0123456789"), json!("a long\ntext of an error")],
                vec![json!("1"), Value::Null],
            ],
        };
        assert_eq!(least_width(&table, &[]), 10 + 2 + 10);
        let expect = "Id     0123456789\nError  a long text of an error\n\nId     1\n";
        assert_eq!(in_lines(&table), expect);
    }

    #[test]
    fn columns_are_left_out_in_their_order_and_ids_shortened_only_where_there_is_no_room() {
        let ids = ["0199d3c0-1f2e-7abc-8def-0123456789ab", "0199d3c0-1f2e-7abc-9def-0123456789ab"];
        let columns: [Column<(&str, &str)>; 4] = [
            dropped(2, column("Source", |row| row.1.into(), Form::Text)),
            column("Topic", |row| row.1.into(), Form::Text),
            dropped(1, column("Consumers", |row| row.1.into(), Form::Text)),
            column("Id", |row| row.0.into(), Form::Id),
        ];
        let table = view::Table::new(&columns, &ids.map(|id| (id, "a text of some length")));
        let check = |width: Option<usize>, left_out: &[&str], id: &str| {
            let text = text_within(table.clone(), width);
            assert_eq!(text.left_out, left_out, "{width:?}");
            assert!(text.text.lines().nth(2).unwrap().ends_with(id), "{width:?}: {}", text.text);
            let longest = text.text.lines().map(|line| line.chars().count()).max();
            assert!(width.is_none_or(|width| longest <= Some(width)), "{width:?}: {}", text.text);
        };
        check(None, &[], ids[0]);
        check(Some(120), &[], "  0199d3c0-1f2e-7abc-8");
        check(Some(50), &["Consumers"], "  0199d3c0-1f2e-7abc-8");
        check(Some(40), &["Consumers", "Source"], "  0199d3c0-1f2e-7abc-8");
        let lines = text_within(table, Some(20));
        assert!(lines.text.contains("Consumers  a text of some length") && lines.left_out.is_empty());
    }

    #[test]
    fn numbers_are_aligned_and_no_line_ends_in_spaces() {
        let columns: [Column<(&str, i64)>; 2] =
            [column("Id", |row| row.0.into(), Form::Text), column("Amount", |row| row.1.into(), Form::Money)];
        let table = rows(&columns, &[("1", 46020), ("22", 5)]);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 4, "{table}");
        assert!(lines[2].ends_with("460.20") && lines[3].ends_with("  0.05"), "{table}");
        assert_eq!(lines[2].len(), lines[3].len(), "{table}");
    }
}
