//! The routing map, drawn from the rows of its table: provider → exchange → topics → queue or subscription.

use super::link;
use super::shell::Shell;
use crate::RouteRow;

/// The most routes that are drawn: more would be no picture. A filter leaves fewer.
const MOST: usize = 40;

/// The height of a route.
const ROW: usize = 30;

/// The height of a box.
const BOX: usize = 22;

/// Where the boxes of each column begin, and how wide they are.
const COLUMNS: [(usize, usize); 4] = [(0, 140), (165, 170), (360, 170), (700, 230)];

/// The width of a letter.
const LETTER: usize = 7;

/// The map as a picture.
pub(crate) struct RouteMap {
    pub(crate) height: usize,
    pub(crate) titles: [(usize, String); 4],
    pub(crate) boxes: Vec<Node>,
    pub(crate) edges: Vec<Edge>,
    /// What is said of routes that are not drawn.
    pub(crate) more: Option<String>,
}

/// A box with a text.
pub(crate) struct Node {
    pub(crate) x: usize,
    pub(crate) y: usize,
    pub(crate) width: usize,
    pub(crate) text: String,
    pub(crate) whole: String,
    pub(crate) href: Option<String>,
}

/// A line from one box to another.
pub(crate) struct Edge {
    pub(crate) path: String,
    pub(crate) class: &'static str,
    /// What it says, and where.
    pub(crate) label: Option<(usize, usize, String)>,
}

/// Rows that follow each other and share a box.
struct Span {
    from: usize,
    to: usize,
}

impl Span {
    fn middle(&self) -> usize {
        TOP + (self.from + self.to - 1) * ROW / 2 + ROW / 2
    }
}

/// The height of the titles.
const TOP: usize = 24;

/// The runs of rows for which a key is the same.
fn spans<K: PartialEq>(rows: &[RouteRow], key: impl Fn(&RouteRow) -> K) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for (at, row) in rows.iter().enumerate() {
        match spans.last_mut() {
            Some(span) if key(&rows[span.from]) == key(row) => span.to = at + 1,
            _ => spans.push(Span { from: at, to: at + 1 }),
        }
    }
    spans
}

/// The start of a text, as long as it fits.
fn cut(text: &str, width: usize) -> String {
    let most = (width - 12) / LETTER;
    match text.chars().count() > most {
        true => text.chars().take(most - 1).chain(['…']).collect(),
        false => text.to_owned(),
    }
}

fn node(column: usize, middle: usize, text: &str, href: Option<String>) -> Node {
    let (x, width) = COLUMNS[column];
    Node { x, y: middle - BOX / 2, width, text: cut(text, width), whole: text.to_owned(), href }
}

/// A line from the end of a column to the start of a later one.
fn edge(columns: (usize, usize), from: usize, to: usize, class: &'static str) -> Edge {
    let start = COLUMNS[columns.0].0 + COLUMNS[columns.0].1;
    let end = COLUMNS[columns.1].0;
    let half = (start + end) / 2;
    Edge { path: format!("M{start} {from}C{half} {from} {half} {to} {end} {to}"), class, label: None }
}

/// What a route leads to, as a page.
fn destination(row: &RouteRow) -> String {
    match row.kind.as_str() {
        "consumer" => link("/queues", [] as [(&str, &str); 0]),
        _ => format!("/subscriptions/{}", row.to),
    }
}

impl RouteMap {
    /// The map of these routes; none if there are none.
    pub(crate) fn new(shell: &Shell, rows: &[RouteRow]) -> Option<Self> {
        let drawn = &rows[..rows.len().min(MOST)];
        if drawn.is_empty() {
            return None;
        }
        let mut rows_by_exchange = drawn.to_vec();
        rows_by_exchange.sort_by(|a, b| {
            (&a.provider, &a.exchange, &a.topics, &a.to).cmp(&(&b.provider, &b.exchange, &b.topics, &b.to))
        });
        let drawn = &rows_by_exchange[..];
        let left_out = rows.len() - drawn.len();
        let mut map = Self {
            height: TOP + drawn.len() * ROW,
            titles: ["Provider", "Exchange", "Topics", "To"]
                .map(|title| shell.t(title).to_owned())
                .into_iter()
                .zip(COLUMNS)
                .map(|(title, (x, _))| (x, title))
                .collect::<Vec<_>>()
                .try_into()
                .unwrap_or_default(),
            boxes: Vec::new(),
            edges: Vec::new(),
            more: (left_out > 0)
                .then(|| shell.filled("{} more routes are in the table; a filter draws them.", &[&left_out])),
        };
        map.draw_senders(drawn);
        map.draw_topics(shell, drawn);
        Some(map)
    }

    /// Providers and exchanges.
    fn draw_senders(&mut self, rows: &[RouteRow]) {
        let providers = spans(rows, |row| row.provider.clone());
        for span in &providers {
            let provider = &rows[span.from].provider;
            let href = link("/events", [("provider", provider)]);
            self.boxes.push(node(0, span.middle(), provider, Some(href)));
        }
        for span in spans(rows, |row| (row.provider.clone(), row.exchange.clone())) {
            let Some(exchange) = &rows[span.from].exchange else { continue };
            let provider = providers.iter().find(|one| one.from <= span.from && span.from < one.to);
            let from = provider.map_or(span.middle(), Span::middle);
            self.boxes.push(node(1, span.middle(), exchange, None));
            self.edges.push(edge((0, 1), from, span.middle(), "edge"));
        }
    }

    /// Topics, and what takes them.
    fn draw_topics(&mut self, shell: &Shell, rows: &[RouteRow]) {
        let senders = spans(rows, |row| (row.provider.clone(), row.exchange.clone()));
        let providers = spans(rows, |row| row.provider.clone());
        let topics = spans(rows, |row| (row.provider.clone(), row.exchange.clone(), row.topics.clone()));
        let around = |spans: &[Span], at: usize| {
            spans.iter().find(|span| span.from <= at && at < span.to).map_or(0, Span::middle)
        };
        for span in &topics {
            let row = &rows[span.from];
            let is_whole = !row.topics.contains(['*', '#']);
            let href = is_whole.then(|| {
                link("/events", [("provider", row.provider.as_str()), ("topic", row.topics.as_str())])
            });
            self.boxes.push(node(2, span.middle(), &row.topics, href));
            let (column, from) = match row.exchange {
                Some(_) => (1, around(&senders, span.from)),
                // A subscription that reads the feed.
                None => (0, around(&providers, span.from)),
            };
            self.edges.push(edge((column, 2), from, span.middle(), "edge"));
        }
        for (at, row) in rows.iter().enumerate() {
            let (from, to) = (around(&topics, at), Span { from: at, to: at + 1 }.middle());
            let class = if row.waiting.is_some_and(|waiting| waiting > 0) { "edge waits" } else { "edge" };
            let waiting = row.waiting.map(|waiting| shell.filled("{} waiting", &[&waiting]));
            let label = shell.filled("{}/h", &[&row.hourly]);
            let label = waiting.map_or_else(|| label.clone(), |waiting| format!("{label} · {waiting}"));
            let line = edge((2, 3), from, to, class);
            self.edges.push(Edge { label: Some((COLUMNS[3].0 - 6, to - 4, label)), ..line });
            self.boxes.push(node(3, to, &row.to, Some(destination(row))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_follow_each_other_share_a_box_and_long_texts_are_cut() {
        let row = |provider: &str| RouteRow {
            provider: provider.to_owned(),
            topics: "#".to_owned(),
            exchange: None,
            to: "crm".to_owned(),
            kind: "push".to_owned(),
            waiting: None,
            hourly: 0,
        };
        let rows = [row("a"), row("a"), row("b")];
        let found: Vec<_> =
            spans(&rows, |row| row.provider.clone()).iter().map(|span| (span.from, span.to)).collect();
        assert_eq!(found, [(0, 2), (2, 3)]);
        let many = vec![row("a"); MOST + 2];
        let map = RouteMap::new(&Shell::english(), &many).unwrap();
        assert_eq!(map.more.unwrap(), "2 more routes are in the table; a filter draws them.");
        assert_eq!(map.boxes.iter().filter(|one| one.text == "crm").count(), MOST);
        assert_eq!(cut("short", 150), "short");
        assert_eq!(cut(&"x".repeat(99), 150).chars().count(), (150 - 12) / LETTER);
    }
}
