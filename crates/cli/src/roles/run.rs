//! A process with roles, from its start to its end.

use std::net::SocketAddr;

use anyhow::{Context, Result};

use super::signals::{Hangup, Signals};
use super::telemetry::Telemetry;
use super::{Roles, Running, welcome};
use crate::config::{self, Config, Loaded};

/// Runs roles until a signal or an error ends them.
pub async fn run(
    config: &mut Config,
    loaded: &Loaded,
    roles: Roles,
    listen: Option<SocketAddr>,
) -> Result<()> {
    if let Some(listen) = listen {
        let port = match (roles.ingress, roles.console) {
            (true, _) => &mut config.ingress.listen,
            (false, true) => &mut config.console.listen,
            (false, false) => &mut config.operations.listen,
        };
        *port = listen;
    }
    let mut signals = Signals::take().context("cannot take signals")?;
    let hangup = Hangup::take().context("cannot take signals")?;
    let telemetry = Telemetry::install(config)?;
    for warning in config::warnings(config) {
        tracing::warn!("{warning}");
    }
    let stop = tokio_util::sync::CancellationToken::new();
    let started = tokio::select! {
        started = Running::start(config, roles, &telemetry) => Some(started?),
        () = signals.next() => None,
    };
    let Some(mut running) = started else { return Ok(()) };
    welcome::print(config, roles, &running);
    let rotation = std::mem::take(&mut running.rotation);
    let failed = tokio::select! {
        () = signals.next() => None,
        error = running.failed() => Some(error),
        () = telemetry.upkeep(stop.clone()) => None,
        () = rotation.run(loaded, hangup) => None,
    };
    tracing::info!("stopping");
    signals.end_on_next();
    running.stop().await;
    // Waits for the network, on a thread where blocking is allowed.
    let flushed = tokio::task::spawn_blocking(move || telemetry.flush()).await;
    flushed.context("the last spans were not sent")?;
    tracing::info!("stopped");
    failed.map_or(Ok(()), Err)
}
