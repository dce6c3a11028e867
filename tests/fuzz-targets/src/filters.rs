//! Filters and cursors: the query of a list of the administration API.

use arbitrary::Unstructured;
use console::{Asked, QueryError};
use ledger::feed::{After, Topics};
use store::{Page, cursor};
use view::View;

/// Every list.
fn views() -> impl Iterator<Item = &'static View> {
    let books = domains::ALL.iter().flat_map(|domain| domain.views).copied();
    ledger::VIEWS
        .into_iter()
        .chain(subscriptions::VIEWS)
        .chain(documents::VIEWS)
        .chain(access::VIEWS)
        .chain(books)
}

fn parse(view: &View, query: &str) -> Result<Asked, QueryError> {
    Asked::parse(query, &view.filters(), |name, value| view.check(name, value))
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    [
        "",
        "topic=acordo.quitado&limit=7&from=2026-11-22T12:00:00Z&to=2026-11-23T00:00:00-03:00",
        "cursor=0199d3c0-1f2e-7abc-8def-0123456789ab&limit=1000&state=pending",
        "cursor=0199d3c0-1f2e-7abc-8def-0123456789ab%3Ainvoices&consumer=invoices",
        "id=0199d3c0-1f2e-7abc-8def-0123456789ab&source=go-matriz&provider=recuperador",
        "subject=order%2F1%20%C3%A9&topic=%00",
        "group=3f2a90c1&limit=0",
        "source=go&state=paid&customer=1+2",
        "state=dead&format=csv",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

/// A query that is read keeps to its limits, and its parameters, written out again, are the same query.
pub(crate) fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    for view in views() {
        let Ok(asked) = parse(view, text) else { continue };
        let Page { limit, cursor } = &asked.page;
        assert!((1..=Page::LIMIT).contains(limit), "a limit of {limit}");
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(&asked.given);
        match asked.format {
            Some(format) => query.append_pair("format", format.name()),
            None => query.append_pair("limit", &limit.to_string()),
        };
        query.extend_pairs(cursor.iter().map(|cursor| ("cursor", cursor)));
        let again = parse(view, &query.finish());
        assert_eq!(again.as_ref(), Ok(&asked), "{} reads {text:?} in two ways", view.name);
    }
}

pub(crate) fn cursor_seeds() -> Vec<Vec<u8>> {
    let feed = "2f.0199d3c01f2e7abc8def0123456789ab~30.ffffffffffffffffffffffffffffffff";
    let texts = ["", "invoices", "a:b:c", "12:%3A", "\u{e9}&limit=3", "+ +", feed, "recuperador:#.a.*,me:*"];
    // The first eight bytes are those of the id.
    texts.map(|text| ["01234567", text].concat().into_bytes()).into()
}

/// A page ends at a key, which travels as an opaque text in an address and comes back as the same key.
pub(crate) fn cursors(input: &[u8]) {
    let mut input = Unstructured::new(input);
    let id = event::EventId::from_parts(
        input.arbitrary().unwrap_or_default(),
        [input.len().to_be_bytes().as_slice()],
    );
    let Ok(second) = std::str::from_utf8(input.take_rest()) else { return };
    assert_eq!(id.to_string().parse::<event::EventId>(), Ok(id));
    if let Ok(after @ After::Cursor(cursor)) = second.parse() {
        assert_eq!(cursor.to_string().parse(), Ok(after), "{second:?} is another position of the feed");
    }
    let _ = second.parse::<Topics>();
    let key = [id.to_string(), second.to_owned()];
    let text = cursor::write(&key);
    assert!(cursor::read(&text, key.len()).eq(&key), "{text:?} is another key");
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("cursor", &text);
    match parse(&ledger::EVENTS, &query.finish()) {
        Ok(asked) => assert_eq!(asked.page.cursor, Some(text)),
        // PostgreSQL accepts no NUL in a text, so no key contains one.
        Err(error) => assert!(second.contains('\0'), "{text:?}: {error}"),
    }
}
