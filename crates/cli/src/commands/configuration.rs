//! `malote config check`: what was read, when nothing is wrong with it.

use crate::config::{self, Loaded, Source};
use crate::installation;
use crate::report;

/// Says what is in force. Mistakes end the program before this.
pub fn check(loaded: &Loaded) {
    let config = &loaded.config;
    let file = loaded
        .file
        .as_ref()
        .map_or_else(|| "the built-in defaults".to_owned(), |file| file.display().to_string());
    report::line(format!("OK: {file}"));
    let broker = if config.is_embedded() { "embedded" } else { "RabbitMQ" };
    let store = if installation::is_store_a_file(config) { "SQLite" } else { "PostgreSQL" };
    report::line(format!("  broker {broker}, store {store}, data in {}", config.data.dir.display()));
    report::line(format!("  ingress {}, console {}", config.ingress.listen, config.console.listen));
    match config.sources.len() {
        0 => report::line("  no sources: nobody can post yet; see `malote config show --default`"),
        n => report::line(format!("  {n} source{}:", if n == 1 { "" } else { "s" })),
    }
    for Source { name, provider, auth, .. } in &config.sources {
        let open = if matches!(auth, providers::auth::Auth::None) {
            ", auth = \"none\": unauthenticated requests are accepted"
        } else {
            ""
        };
        report::line(format!("    {name} ({provider}{open})"));
    }
    for warning in config::warnings(config) {
        report::line(format!("warning: {warning}"));
    }
}
