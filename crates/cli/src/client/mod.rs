//! The client of a running malote: the commands that use its administration API, and `simulate`, which posts to its
//! ingress.
//!
//! Knows addresses, tokens and JSON. Opens no broker and no database.

pub mod access;
pub mod api;
mod apply;
mod ask;
pub mod attempts;
mod dead;
mod described;
pub mod documents;
mod edit;
pub mod feed;
mod fields;
mod follow;
mod ids;
mod jobs;
pub mod lists;
pub mod overview;
pub mod queues;
mod receipt;
pub mod reconcile;
mod resend;
pub mod routes;
mod secret_input;
pub mod sender;
pub mod simulate;
pub mod sources;
mod subscribed;
pub mod subscriptions;
mod variation;

use std::process::ExitCode;

use anyhow::Result;
use ledger::jobs::What;
use ledger::{EVENTS, REJECTED, UNROUTED};

use crate::args::dead::Dead;
use crate::args::{Events, Jobs, Rejected, Unrouted};
use crate::config::Config;

/// `malote events`
pub async fn events(command: Events, config: &Config) -> Result<ExitCode> {
    match command {
        Events::List(list) => lists::events(list, config).await?,
        Events::Show(show) => lists::show_received::<console::EventDetail>(&EVENTS, show, config).await?,
        Events::Replay(replay) => return resend::replay(replay, config).await,
        Events::Tail(tail) => feed::tail(tail, config).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// `malote dead`
pub async fn dead(command: Dead, config: &Config) -> Result<ExitCode> {
    match command {
        Dead::List(list) => dead::list(list, config).await?,
        Dead::Show(show) => dead::show(show, config).await?,
        Dead::Retry(retry) => return resend::retry_dead(retry, config).await,
        Dead::Edit(edit) => return edit::edit(edit, config).await,
        Dead::Note(note) => dead::note(note, config).await?,
        Dead::Discard(discard) => return resend::discard_dead(discard, config).await,
    }
    Ok(ExitCode::SUCCESS)
}

/// `malote rejected`
pub async fn rejected(command: Rejected, config: &Config) -> Result<ExitCode> {
    match command {
        Rejected::List(list) => lists::list(&REJECTED, list, config).await.map(drop)?,
        Rejected::Show(show) => lists::show_received::<ledger::Rejected>(&REJECTED, show, config).await?,
        Rejected::Retry(retry) => return resend::retry(What::Rejected, retry, config).await,
        Rejected::Discard(discard) => return resend::discard(What::Rejected, discard, config).await,
    }
    Ok(ExitCode::SUCCESS)
}

/// `malote unrouted`
pub async fn unrouted(command: Unrouted, config: &Config) -> Result<ExitCode> {
    match command {
        Unrouted::List(list) => lists::list(&UNROUTED, list, config).await.map(drop)?,
        Unrouted::Retry(retry) => return resend::retry(What::Unrouted, retry, config).await,
        Unrouted::Discard(discard) => return resend::discard(What::Unrouted, discard, config).await,
    }
    Ok(ExitCode::SUCCESS)
}

/// `malote jobs`
pub async fn jobs(command: Jobs, config: &Config) -> Result<ExitCode> {
    match command {
        Jobs::List(list) => jobs::list(list, config).await?,
        Jobs::Show(show) => jobs::show(show, config).await?,
        Jobs::Watch(job) => return jobs::watch(job, config).await,
        Jobs::Pause(job) => jobs::pause(job, config).await?,
        Jobs::Resume(job) => jobs::resume(job, config).await?,
        Jobs::Cancel(job) => jobs::cancel(job, config).await?,
    }
    Ok(ExitCode::SUCCESS)
}
