//! The search box: every id leads to what it is of.

use axum::extract::{Extension, RawQuery, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::{HeaderMap, StatusCode, Uri};
use ledger::EventRow;
use serde_json::Value;
use serde_json::value::RawValue;
use store::IdPrefix;
use view::List;

use super::shell::{Visit, page};
use super::{Pages, Problem, link, pairs, read, session};

/// Lists that are searched by the id of a row or its beginning, and whether a row has a page.
const BY_ID: [(&str, bool); 5] =
    [("events", true), ("rejected", true), ("jobs", true), ("documents", true), ("audit", false)];

/// Finds what somebody has an id or a name of, and leads to it.
pub(super) async fn search(
    State(pages): State<Pages>,
    Extension(visit): Extension<Visit>,
    headers: HeaderMap,
    uri: Uri,
    RawQuery(query): RawQuery,
) -> Response {
    let pairs = pairs(query);
    let asked = session::field(&pairs, "q").unwrap_or_default().trim();
    let searched = Searched { pages: &pages, visit: &visit, asked };
    if let Some(found) = searched.found().await {
        return Redirect::to(&found).into_response();
    }
    let shell = pages.shell(&headers, &uri, Some(visit), "Nothing was found");
    page(StatusCode::NOT_FOUND, &Problem::new(shell, NOTHING, StatusCode::NOT_FOUND))
}

/// What is said when nothing was found.
pub(crate) const NOTHING: &str = "Paste the id of an event, a rejected body, a job, a document, an entry of the audit or a group of \
                                  dead letters, or its beginning; the number of an order or another subject; the sender's own \
                                  id; or the name of a source, a subscription or a token.";

struct Searched<'a> {
    pages: &'a Pages,
    visit: &'a Visit,
    asked: &'a str,
}

impl Searched<'_> {
    /// The page of what was found first: an id, a name, a subject, the id of a sender, in this order.
    async fn found(&self) -> Option<String> {
        if self.asked.is_empty() {
            return None;
        }
        // A number may be both: that of an order is meant more often than eight digits that an id begins with.
        let is_number = self.asked.bytes().all(|byte| byte.is_ascii_digit());
        if is_number && let Some(found) = self.by_events("subject").await {
            return Some(found);
        }
        if let Some(found) = self.by_id().await {
            return Some(found);
        }
        if let Some(found) = self.by_name().await {
            return Some(found);
        }
        for field in ["subject", "sender_id"] {
            if let Some(found) = self.by_events(field).await {
                return Some(found);
            }
        }
        None
    }

    async fn rows<T: serde::de::DeserializeOwned>(&self, list: &str, field: &str) -> Vec<T> {
        let path = link(&format!("/{list}"), [(field, self.asked), ("limit", "2")]);
        read::<List<T>>(self.pages, self.visit, &path).await.map(|list| list.items).unwrap_or_default()
    }

    async fn by_id(&self) -> Option<String> {
        self.asked.parse::<IdPrefix>().ok()?;
        for (list, has_page) in BY_ID {
            let rows = self.rows::<Value>(list, "id").await;
            match rows.as_slice() {
                [] => {}
                [row] if has_page => return Some(format!("/{list}/{}", row["id"].as_str()?)),
                _ => return Some(link(&format!("/{list}"), [("id", self.asked)])),
            }
        }
        let letters = self.rows::<Box<RawValue>>("dead", "group").await;
        (!letters.is_empty()).then(|| link("/dead", [("group", self.asked)]))
    }

    async fn by_name(&self) -> Option<String> {
        if self.pages.state.sources.iter().any(|source| source.source == self.asked) {
            return Some(format!("/sources/{}", self.asked));
        }
        let named = async |list: &str| {
            let rows = read::<List<Value>>(self.pages, self.visit, &format!("/{list}?limit=1000")).await;
            rows.is_ok_and(|rows| rows.items.iter().any(|row| row["name"] == self.asked))
        };
        if named("subscriptions").await {
            return Some(format!("/subscriptions/{}", self.asked));
        }
        named("tokens").await.then(|| link("/audit", [("who", self.asked)]))
    }

    async fn by_events(&self, field: &str) -> Option<String> {
        let rows = self.rows::<EventRow>("events", field).await;
        match rows.as_slice() {
            [] => None,
            [row] => Some(format!("/events/{}", row.id)),
            _ => Some(link("/events", [(field, self.asked)])),
        }
    }
}
