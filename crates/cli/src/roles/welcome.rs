//! What a person at a terminal sees when roles have started; a log gets one line instead.

use std::io::IsTerminal;

use tracing::info;

use super::{Roles, Running};
use crate::config::{Config, Source};
use crate::installation;
use crate::report;

/// Prints where everything is.
pub fn print(config: &Config, roles: Roles, running: &Running) {
    let text = |address: Option<std::net::SocketAddr>| address.map(|address| address.to_string());
    info!(
        ingress = text(running.ingress),
        console = text(running.console),
        operations = %running.operations,
        sources = config.sources.len(),
        "started"
    );
    if roles.ingress && config.sources.is_empty() {
        tracing::warn!(
            "no sources are configured: nobody can post yet; `malote config show --default` shows how"
        );
    }
    if std::io::stdout().is_terminal() {
        report::print(&welcome(config, roles, running));
    }
}

fn welcome(config: &Config, roles: Roles, running: &Running) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| text += &format!("  {name:<10} {value}\n");
    if let Some(address) = running.ingress {
        let scheme = if config.ingress.tls.is_some() { "https" } else { "http" };
        for Source { name, provider, .. } in &config.sources {
            line("webhooks", format!("POST {scheme}://{address}/webhooks/{name}  ({provider})"));
        }
    }
    if let Some(address) = running.console {
        let scheme = if config.console.tls.is_some() { "https" } else { "http" };
        line("console", format!("{scheme}://{address}/  (log in with the token: {})", token_place(config)));
        line("api", format!("{scheme}://{address}/api/v1  (the same token)"));
    }
    let scheme = if config.operations.tls.is_some() { "https" } else { "http" };
    line("health", format!("{scheme}://{}/readyz, metrics at /metrics", running.operations));
    let broker = if config.is_embedded() { "embedded" } else { "RabbitMQ" };
    let store = if installation::is_store_a_file(config) { "SQLite" } else { "PostgreSQL" };
    line("broker", format!("{broker}, store {store}"));
    if roles.ingress && config.sources.is_empty() {
        text += &format!(
            "\nNo sources are configured, so nobody can post yet. In {}:\n\n{ADD_A_SOURCE}",
            crate::config::DEFAULT_FILE
        );
    }
    format!("\nmalote {} is up; Ctrl-C stops it.\n\n{text}\n", super::telemetry::VERSION)
}

fn token_place(config: &Config) -> String {
    match config.console.token() {
        Some(_) => "console.token".to_owned(),
        None => config.data.dir.join("token").display().to_string(),
    }
}

const ADD_A_SOURCE: &str = "    [[sources]]
    name = \"me-filial-sul\"
    provider = \"mercado-eletronico\"
    auth.header = { name = \"x-api-key\", secrets_file = \"me-filial-sul.secret\" }

The secret: `(umask 077; openssl rand -hex 32 > me-filial-sul.secret)`.

Every setting: `malote config show --default`. Everything at work, with examples: `malote demo`.
";
