//! `malote attempts` and `malote undelivered`: the outcome of events at push subscriptions.

use anyhow::Result;
use event::{EventId, SubscriptionName};
use ledger::EVENTS;
use serde::Serialize;
use subscriptions::{ATTEMPTS, AttemptDetail, Closed, Discarding, REPORT, Resending, UNDELIVERED};
use view::View;

use super::api::Api;
use super::ask::{ASKED_BEYOND, confirm};
use super::fields::{Described, Fields, hidden};
use super::{ids, lists};
use crate::args::subscriptions::{AttemptList, Attempts, DiscardUndelivered, Resend, Undelivered, Which};
use crate::args::{Moment, RevealingShow};
use crate::config::Config;
use crate::local;
use crate::report;

/// `malote attempts`
pub async fn run(command: Attempts, config: &Config) -> Result<()> {
    match command {
        Attempts::List(list) => self::list(&ATTEMPTS, list, config).await,
        Attempts::Show(args) => show(args, config).await,
        Attempts::Retry(args) => retry(args, config).await,
        Attempts::Report(list) => self::list(&REPORT, list, config).await,
    }
}

/// `malote undelivered`
pub async fn undelivered(command: Undelivered, config: &Config) -> Result<()> {
    match command {
        Undelivered::List(list) => self::list(&UNDELIVERED, list, config).await,
        Undelivered::Discard(args) => discard(args, config).await,
    }
}

async fn list(view: &View, list: AttemptList, config: &Config) -> Result<()> {
    lists::list_with_options(view, list.filter, list.rows, config).await
}

async fn show(RevealingShow { reveal, show }: RevealingShow, config: &Config) -> Result<()> {
    let none = format!("no attempt to deliver {} is on record", show.id);
    lists::show_all::<AttemptDetail>(&ATTEMPTS, show, reveal, &none, config).await
}

impl Described for AttemptDetail {
    fn described(&self) -> String {
        let Self { row, answer, masked } = self;
        let fields = Fields::new(12)
            .text("subscription", &row.subscription)
            .text("attempt", &row.attempt)
            .time("at", &row.at)
            .text("duration_ms", &row.duration_ms)
            .text("status", &row.status)
            .text("error", &row.error);
        let answer = answer.as_deref().filter(|text| !text.is_empty());
        let answer = answer.map(|text| format!("\nanswer\n{}\n", text.trim_end()));
        fields.text + &answer.unwrap_or_default() + hidden(*masked)
    }
}

/// What is to be done with the chosen events: everything but which of them it is.
trait Closing: Clone + Serialize {
    /// The path of the API.
    const PATH: &str;
    /// What options choose, only counted.
    fn chosen(which: &Which, config: &Config) -> Result<Self>;
    /// Chooses one event.
    fn for_event(self, event: EventId) -> Self;
    /// Only counts, or does it.
    fn dry(self, is_dry: bool) -> Self;
    /// Goes on with the next part.
    fn after(self, next: String) -> Self;
}

macro_rules! closing {
    ($asked:ty, $path:literal, $other:ident) => {
        impl Closing for $asked {
            const PATH: &str = $path;

            fn chosen(which: &Which, config: &Config) -> Result<Self> {
                let time = |moment: Option<Moment>| {
                    moment.map(|moment| moment.time(&config.time.zone, local::zone()))
                };
                let Which { subscription, from, to, topic, status, error, .. } = which.clone();
                Ok(Self {
                    subscription: SubscriptionName::new(&subscription)?,
                    id: None,
                    from: time(from),
                    to: time(to),
                    topic,
                    status,
                    error,
                    $other: Default::default(),
                    dry_run: true,
                    after: None,
                })
            }

            fn for_event(self, event: EventId) -> Self {
                Self { id: Some(event), ..self }
            }

            fn dry(self, dry_run: bool) -> Self {
                Self { dry_run, ..self }
            }

            fn after(self, next: String) -> Self {
                Self { after: Some(next), ..self }
            }
        }
    };
}

closing!(Resending, "attempts/retry", again);
closing!(Discarding, "undelivered/discard", reason);

/// What is asked of the API, once for each event that was chosen by its id.
async fn each<C: Closing>(asked: C, ids: Vec<String>, api: &Api) -> Result<Vec<C>> {
    if ids.is_empty() {
        return Ok(vec![asked]);
    }
    let ids = ids::all_whole(&[&EVENTS], ids, api).await?;
    ids.iter().map(|id| Ok(asked.clone().for_event(id.parse()?))).collect()
}

/// Has it done, part by part; gives how many events it were, or would be.
async fn closed<C: Closing>(api: &Api, asked: &[C], is_dry: bool) -> Result<i64> {
    let mut total = 0;
    for one in asked {
        let mut part = one.clone().dry(is_dry);
        loop {
            let Closed { total: count, next } = api.post(C::PATH, &part).await?;
            total += count;
            let Some(next) = next else { break };
            part = part.after(next);
        }
    }
    Ok(total)
}

fn events(count: i64) -> String {
    format!("{count} event{}", if count == 1 { "" } else { "s" })
}

async fn retry(Resend { which, again }: Resend, config: &Config) -> Result<()> {
    let asked = Resending { again, ..Resending::chosen(&which, config)? };
    let Which { ids, subscription, dry_run, yes, api, .. } = which;
    let api = Api::new(&api, config)?;
    let asked = each(asked, ids, &api).await?;
    let total = closed(&api, &asked, true).await?;
    if total == 0 {
        let what = if again { "was sent to it" } else { "is undelivered or waits" };
        report::line(format!("Nothing to send again to {subscription}: none of these {what}."));
        return Ok(());
    }
    if dry_run {
        report::line(format!("This would send {} again to {subscription}.", events(total)));
        return Ok(());
    }
    let question = format!("Send {} again to {subscription}?", events(total));
    if total > ASKED_BEYOND && !yes {
        confirm(&question)?;
    }
    let sent = closed(&api, &asked, false).await?;
    let is = if sent == 1 { "is" } else { "are" };
    report::line(format!(
        "{} {is} sent again. `malote attempts list --subscription {subscription}` shows how.",
        events(sent)
    ));
    Ok(())
}

async fn discard(DiscardUndelivered { which, reason }: DiscardUndelivered, config: &Config) -> Result<()> {
    let asked = Discarding { reason: reason.unwrap_or_default(), ..Discarding::chosen(&which, config)? };
    let Which { ids, subscription, dry_run, yes, api, .. } = which;
    let api = Api::new(&api, config)?;
    let asked = each(asked, ids, &api).await?;
    let total = closed(&api, &asked, true).await?;
    if total == 0 {
        report::line(format!("Nothing to discard: {subscription} has no such undelivered event."));
        return Ok(());
    }
    if dry_run {
        report::line(format!("This would discard {} of {subscription}.", events(total)));
        return Ok(());
    }
    if !yes {
        confirm(&format!("Discard {} of {subscription}?", events(total)))?;
    }
    let discarded = closed(&api, &asked, false).await?;
    report::line(format!("Discarded {}. Their attempts stay on record.", events(discarded)));
    Ok(())
}
