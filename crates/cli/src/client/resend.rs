//! Sending again and discarding: one way to choose, one way to ask, whatever it is about.

use std::process::ExitCode;

use anyhow::{Result, bail};
use console::Counted;
use ledger::jobs::{Action, Job, NewJob, What};
use ledger::{EVENTS, JOBS};
use serde_json::{Map, Value};
use view::View;

use super::api::Api;
use super::ask::{ASKED_BEYOND, confirm};
use super::{follow, ids, lists};
use crate::args::dead::{DeadDiscard, DeadRetry};
use crate::args::documents::Fetch;
use crate::args::{Choice, Discard, JobArgs, Replay, Retry};
use crate::config::Config;
use crate::report;

/// `malote events replay`
pub async fn replay(replay: Replay, config: &Config) -> Result<ExitCode> {
    let Replay { events, to_consumer, all: _, again, job } = replay;
    let asked = NewJob { to_consumer, again, ..NewJob::new(Action::Replay, What::Events) };
    run(events.choice(&config.time.zone), asked, job, config).await
}

/// `malote documents fetch`
pub async fn fetch(Fetch { events, job }: Fetch, config: &Config) -> Result<ExitCode> {
    let asked = NewJob::new(Action::Fetch, What::Events);
    run(events.choice(&config.time.zone), asked, job, config).await
}

/// `malote dead retry`
pub async fn retry_dead(args: DeadRetry, config: &Config) -> Result<ExitCode> {
    let DeadRetry { filter, mut retry } = args;
    retry.choice.filters.extend(filter.parameters(&config.time.zone));
    self::retry(What::Dead, retry, config).await
}

/// `malote dead discard`
pub async fn discard_dead(args: DeadDiscard, config: &Config) -> Result<ExitCode> {
    let DeadDiscard { filter, mut discard } = args;
    discard.choice.filters.extend(filter.parameters(&config.time.zone));
    self::discard(What::Dead, discard, config).await
}

/// `retry`
pub async fn retry(what: What, Retry { choice, job }: Retry, config: &Config) -> Result<ExitCode> {
    run(choice, NewJob::new(Action::Retry, what), job, config).await
}

/// `discard`
pub async fn discard(what: What, args: Discard, config: &Config) -> Result<ExitCode> {
    let Discard { choice, reason, job } = args;
    let asked = NewJob { reason: Some(reason), ..NewJob::new(Action::Discard, what) };
    run(choice, asked, job, config).await
}

/// The filters of the jobs: one for all that fits, or one for each id.
fn filters(view: &View, choice: Choice) -> Result<Vec<Map<String, Value>>> {
    let Choice { ids, mut filters, source, everything } = choice;
    filters.extend(source.map(|source| ("source".to_owned(), source)));
    lists::check_fields(view, &filters)?;
    if ids.is_empty() && filters.is_empty() && !everything {
        let example = if view.name == EVENTS.name {
            "--state dead".to_owned()
        } else {
            format!("--where {}", view.example)
        };
        bail!("say which: ids, a filter such as {example}, or --everything");
    }
    let filter: Map<String, Value> =
        filters.into_iter().map(|(name, value)| (name, Value::from(value))).collect();
    if ids.is_empty() {
        return Ok(vec![filter]);
    }
    let mut filters = Vec::new();
    for id in ids {
        let mut filter = filter.clone();
        filter.insert("id".to_owned(), id.into());
        // Two jobs would replay the same event as two new ones.
        if !filters.contains(&filter) {
            filters.push(filter);
        }
    }
    Ok(filters)
}

/// Counts, asks where that is many, starts the jobs and follows them.
async fn run(choice: Choice, asked: NewJob, args: JobArgs, config: &Config) -> Result<ExitCode> {
    let api = Api::new(&args.api, config)?;
    let (action, view) = (asked.action, asked.what.view());
    let mut jobs = Vec::new();
    let mut total = 0;
    let choice = Choice { ids: ids::all_whole(&[view], choice.ids, &api).await?, ..choice };
    for filter in filters(view, choice)? {
        let job = NewJob { filter: filter.into(), rate: args.rate, ..asked.clone() };
        let counting = NewJob { dry_run: true, ..job.clone() };
        let Counted { total: count } = api.post(JOBS.name, &counting).await?;
        total += count;
        if count > 0 {
            jobs.push(job);
        }
    }
    let what = named(view, total);
    if total == 0 {
        report::line(format!("Nothing to {action}: no {} fit.", named(view, 2)));
        return Ok(ExitCode::SUCCESS);
    }
    if args.dry_run {
        report::line(format!("This would {action} {total} {what}."));
        return Ok(ExitCode::SUCCESS);
    }
    if total > ASKED_BEYOND && !args.yes {
        confirm(&format!("{action} {total} {what}?"))?;
    }
    let mut begun = Vec::new();
    for job in jobs {
        begun.push(api.post::<Job>(JOBS.name, &job).await?);
    }
    if !args.detach {
        return follow::jobs(&api, begun).await;
    }
    for Job { id, .. } in begun {
        report::line(format!("Job {id} begins. `malote jobs watch {id}` follows it."));
    }
    Ok(ExitCode::SUCCESS)
}

/// The name of this many rows.
fn named(view: &View, count: i64) -> &'static str {
    if count == 1 { view.row } else { view.rows }
}

#[cfg(test)]
mod tests {
    use event::EventId;
    use ledger::DEAD;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_choice_is_one_filter_or_one_for_each_id() {
        let id = EventId::generate().to_string();
        let choice = |ids: &[&str], filters: &[(&str, &str)], everything| Choice {
            ids: ids.iter().map(|id| (*id).to_owned()).collect(),
            filters: filters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            source: None,
            everything,
        };
        let check = |choice, expect: Value| {
            let found: Vec<Value> = filters(&DEAD, choice).unwrap().into_iter().map(Value::from).collect();
            assert_eq!(Value::from(found), expect);
        };
        check(choice(&[], &[], true), json!([{}]));
        check(choice(&[], &[("group", "0a")], false), json!([{"group": "0a"}]));
        let other = EventId::generate().to_string();
        check(
            choice(&[&id, &other, &id], &[("consumer", "a")], false),
            json!([{"consumer": "a", "id": id}, {"consumer": "a", "id": other}]),
        );
        let printed = |choice| filters(&DEAD, choice).unwrap_err().to_string();
        assert!(printed(choice(&[], &[], false)).starts_with("say which: ids, a filter"));
        assert!(printed(choice(&[], &[("topic", "a")], false)).starts_with("--where: topic is not a field"));
    }
}
