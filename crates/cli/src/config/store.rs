//! `[store]`: which database.

use super::check::{DAY_MS, Mistake, Section, lone_half, out_of_range};

impl Section for store::Config {
    fn mistakes(&self) -> Vec<Mistake> {
        let mut mistakes = out_of_range(&[
            ("max_connections", u64::from(self.max_connections), 10_000),
            ("acquire_timeout_ms", self.acquire_timeout_ms, DAY_MS),
        ]);
        mistakes.extend(url_mistake(&self.url).map(|message| Mistake::new("url", message)));
        if self.is_exposed() && !self.insecure {
            mistakes.push(Mistake::new(
                "url",
                "with this sslmode, a machine in between can impersonate the database; remove it (the default is verify-full), \
                 or allow it with store.insecure = true",
            ));
        }
        mistakes.extend(lone_half("tls", self.tls.certificate.is_some(), self.tls.key.is_some()));
        mistakes
    }
}

/// What is wrong with `store.url`, if anything.
fn url_mistake(url: &str) -> Option<&'static str> {
    const ALLOWED: &str =
        "allowed: \"sqlite\", \"sqlite:<file>\" or \"postgres://user:password@host/database\"";
    if url == "sqlite" {
        return None;
    }
    if let Some(file) = url.strip_prefix("sqlite:") {
        let is_file = !file.trim_matches('/').is_empty();
        return if is_file { None } else { Some("names no file; write \"sqlite:<file>\", or \"sqlite\"") };
    }
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Some(ALLOWED);
    }
    reqwest::Url::parse(url).is_err().then_some(
        "is not a URL; in user and password, write special characters percent-encoded, such as %2F for / and \
         %23 for #",
    )
}
