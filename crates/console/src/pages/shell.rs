//! What every page has: language, title, menu, who is logged in.

use std::fmt::Display;
use std::io::Write;
use std::sync::LazyLock;

use access::{Digest, Identity};
use askama::Template;
use axum::body::Bytes;
use axum::response::{Html, IntoResponse, Response};
use event::Timestamp;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::ACCEPT_ENCODING;
use http::{HeaderMap, StatusCode};
use server::Peer;
use view::View;

use super::text::Lang;
use crate::OTHER_VIEWS;

/// Who looks at a page.
#[derive(Clone)]
pub(crate) struct Visit {
    pub(crate) identity: Identity,
    /// What forms send back: only pages of this session know it.
    pub(crate) form_token: String,
    /// From where.
    pub(crate) peer: Option<Peer>,
}

/// What every page has.
pub(crate) struct Shell {
    pub(crate) lang: Lang,
    pub(crate) title: String,
    pub(crate) path: String,
    /// What follows the `?` of its address.
    pub(crate) query: String,
    pub(crate) visit: Option<Visit>,
    pub(crate) views: Vec<&'static View>,
}

/// A line of the menu.
pub(crate) struct Entry {
    pub(crate) href: String,
    pub(crate) title: String,
}

/// A file that pages load, named by its content, so that it may be cached forever.
pub(crate) struct Asset {
    path: LazyLock<String>,
    content_type: &'static str,
    content: &'static str,
    compressed: LazyLock<Bytes>,
}

const CSS: &str = include_str!("../../assets/console.css");
const JS: &str = include_str!("../../assets/console.js");
const ICON: &str = include_str!("../../assets/favicon.svg");

/// The style sheet.
pub(crate) static STYLES: Asset = Asset {
    path: LazyLock::new(|| named(CSS, "css")),
    content_type: "text/css; charset=utf-8",
    content: CSS,
    compressed: LazyLock::new(|| gzip(CSS.as_bytes(), Compression::best())),
};

/// What pages can do better with a script.
pub(crate) static SCRIPT: Asset = Asset {
    path: LazyLock::new(|| named(JS, "js")),
    content_type: "text/javascript; charset=utf-8",
    content: JS,
    compressed: LazyLock::new(|| gzip(JS.as_bytes(), Compression::best())),
};

/// The icon of the pages.
pub(crate) static FAVICON: Asset = Asset {
    path: LazyLock::new(|| named(ICON, "svg")),
    content_type: "image/svg+xml",
    content: ICON,
    compressed: LazyLock::new(|| gzip(ICON.as_bytes(), Compression::best())),
};

fn named(content: &str, extension: &str) -> String {
    format!("/assets/{}.{extension}", &Digest::new(content.as_bytes()).to_hex()[..16])
}

impl Asset {
    /// Where it is.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The answer with it.
    fn answer(&'static self, headers: &HeaderMap) -> Response {
        let head = [
            ("content-type", self.content_type),
            ("cache-control", "public, max-age=31536000, immutable"),
            ("vary", "accept-encoding"),
        ];
        match takes_gzip(headers) {
            true => (head, [("content-encoding", "gzip")], self.compressed.clone()).into_response(),
            false => (head, self.content).into_response(),
        }
    }
}

/// The style sheet.
pub(crate) async fn styles(headers: HeaderMap) -> Response {
    STYLES.answer(&headers)
}

/// The script.
pub(crate) async fn script(headers: HeaderMap) -> Response {
    SCRIPT.answer(&headers)
}

/// The icon.
pub(crate) async fn favicon(headers: HeaderMap) -> Response {
    FAVICON.answer(&headers)
}

/// For what is compressed each time.
pub(crate) const FAST: Compression = Compression::fast();

/// Whether a client takes what is compressed. A weight of 0 refuses it (RFC 9110, section 12.5.3).
pub(crate) fn takes_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|line| line.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let weight = weight.trim().strip_prefix("q=").and_then(|weight| weight.parse::<f32>().ok());
        name.trim().eq_ignore_ascii_case("gzip") && weight.is_none_or(|weight| weight > 0.0)
    })
}

/// Bytes compressed.
pub(crate) fn gzip(bytes: &[u8], level: Compression) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), level);
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory takes what is written").into()
}

impl Shell {
    /// That of a page in English, which nobody looks at.
    #[cfg(test)]
    pub(crate) fn english() -> Self {
        Self {
            lang: Lang::English,
            title: String::new(),
            path: String::new(),
            query: String::new(),
            visit: None,
            views: Vec::new(),
        }
    }

    /// A text in the language of the page.
    pub(crate) fn t<'a>(&self, english: &'a str) -> &'a str {
        self.lang.text(english)
    }

    /// The name of a field in the language of the page: `received_at` as "received at".
    pub(crate) fn name(&self, field: &str) -> String {
        let words = field.replace('_', " ");
        self.lang.text(&words).to_owned()
    }

    /// A text in the language of the page, with these values in place of each `{}`.
    pub(crate) fn filled(&self, english: &str, values: &[&dyn Display]) -> String {
        let mut parts = self.t(english).split("{}");
        let first = parts.next().unwrap_or_default().to_owned();
        values.iter().zip(parts).fold(first, |text, (value, part)| format!("{text}{value}{part}"))
    }

    pub(crate) fn stylesheet(&self) -> &'static str {
        STYLES.path()
    }

    pub(crate) fn icon(&self) -> &'static str {
        FAVICON.path()
    }

    pub(crate) fn script(&self) -> &'static str {
        SCRIPT.path()
    }

    /// How long ago a time was that is in RFC 3339; any other text stays as it is.
    pub(crate) fn ago(&self, time: impl Display) -> String {
        let text = time.to_string();
        match text.parse::<Timestamp>() {
            Ok(time) => self.lang.ago(time, event::now()),
            Err(_) => text,
        }
    }

    /// The lists that stand for themselves.
    pub(crate) fn menu(&self) -> Vec<Entry> {
        let has_place = |name: &str| !name.contains('/') || name == ledger::DEAD_GROUPS.name;
        let listed = self.views.iter().filter(|view| has_place(view.name));
        let lists =
            listed.map(|view| (view.name, view.rows)).chain(OTHER_VIEWS.map(|view| (view.name, view.rows)));
        let entry = |(name, rows)| Entry { href: format!("/{name}"), title: title(self.t(rows)) };
        let mut entries: Vec<_> = lists.map(entry).collect();
        let after = entries.iter().position(|entry| entry.href == "/jobs").map_or(entries.len(), |at| at + 1);
        entries.insert(after, entry(("reconciliation", "Reconciliation")));
        entries
    }

    /// The address of this page in the other language.
    pub(crate) fn other_language(&self) -> String {
        let here = match self.query.as_str() {
            "" => self.path.clone(),
            query => format!("{}?{query}", self.path),
        };
        let pairs = [("to", self.lang.other().code()), ("back", here.as_str())];
        format!("/language?{}", serde_urlencoded::to_string(pairs).expect("pairs of text are a query"))
    }
}

/// With a capital letter: a title.
pub(crate) fn title(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// The answer with a page.
pub(crate) fn page(status: StatusCode, template: &impl Template) -> Response {
    match template.render() {
        Ok(text) => (status, Html(text)).into_response(),
        Err(error) => {
            tracing::error!("a page cannot be made: {error}");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
