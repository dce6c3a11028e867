//! `malote subscriptions`: what internal services asked for, and every change of it.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use event::SubscriptionName;
use ledger::EVENTS;
use serde::Serialize;
use serde_json::value::RawValue;
use subscriptions::{
    Added, Auth, Backfill, Declaration, DoorKind, Edited, Editing, GivenSecrets, NewSubscription, Order,
    Pausing, Pull, Push, QueueDoor, Resuming, Rotation, SUBSCRIPTIONS, Seeking, ShownOnce, State,
    SubscriptionDetail, SubscriptionRow, Tls, Trial, TrialDelivery, TrialOutcome,
};

use super::api::Api;
use super::apply;
use super::ask::{answer, confirm};
use super::fields::{Described, Fields, hidden};
use super::ids;
use super::lists::{self, print_json};
use super::secret_input;
use super::subscribed::{may_remove, path, print_once};
use crate::args::subscriptions::{
    Add, DoorArgs, Edit, Named, OrderArg, Pause, Remove, Resume, Rotate, Rows, Seek, Subscriptions, Terms,
    Test,
};
use crate::args::{List, Moment, Output, moment};
use crate::config::Config;
use crate::local;
use crate::report;

/// `malote subscriptions`
pub async fn run(command: Subscriptions, config: &Config) -> Result<()> {
    match command {
        Subscriptions::List(Rows { limit, filters, output }) => {
            let list = List { limit, filters, source: None, reveal: false, output };
            lists::list(&SUBSCRIPTIONS, list, config).await.map(drop)
        }
        Subscriptions::Add(args) => add(args, config).await,
        Subscriptions::Show(args) => show(args, config).await,
        Subscriptions::Edit(args) => edit(args, config).await,
        Subscriptions::Pause(args) => pause(args, config).await,
        Subscriptions::Resume(args) => resume(args, config).await,
        Subscriptions::Seek(args) => seek(args, config).await,
        Subscriptions::Test(args) => test(args, config).await,
        Subscriptions::RotateSecret(args) => rotate_secret(args, config).await,
        Subscriptions::Remove(args) => remove(args, config).await,
        Subscriptions::Apply(args) => apply::run(args, config).await,
    }
}

async fn find(api: &Api, name: &str) -> Result<SubscriptionDetail> {
    match api.find(&path(name)?).await? {
        Some(found) => Ok(found),
        None => bail!("no subscription {name}; names are in `malote subscriptions list`"),
    }
}

/// The topics of an option.
fn topics(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// What the options ask for.
fn declaration(name: &str, door: DoorArgs, terms: &Terms, secrets: &GivenSecrets) -> Result<Declaration> {
    if terms.topics.is_none() {
        bail!("--topics is missing: say which events, such as 'recuperador:acordo.*'");
    }
    let declaration = Declaration {
        name: SubscriptionName::new(name)?,
        topics: Vec::new(),
        filter: None,
        transform: None,
        push: door.push.map(Push::new),
        pull: door.pull.then_some(Pull {}),
        queue: door.queue.then(|| QueueDoor { user: door.user.then(|| format!("subscription.{name}")) }),
    };
    edited(declaration, terms, secrets)
}

/// A declaration with what the options change.
fn edited(mut declaration: Declaration, terms: &Terms, secrets: &GivenSecrets) -> Result<Declaration> {
    if let Some(wanted) = &terms.topics {
        declaration.topics = topics(wanted);
    }
    declaration.filter = terms.filter.clone().or(declaration.filter);
    declaration.transform = terms.transform.clone().or(declaration.transform);
    let (auth, tls) = (auth(terms), tls(terms)?);
    let given = [
        terms.timeout_ms.is_some(),
        terms.concurrency.is_some(),
        terms.rate.is_some(),
        terms.batch.is_some(),
        terms.retry.is_some(),
        terms.order.is_some(),
        auth.is_some(),
        tls.is_some(),
        *secrets != GivenSecrets::default(),
    ];
    let is_of_push = given.contains(&true);
    match &mut declaration.push {
        None if is_of_push => bail!("these options go with --push only"),
        None => {}
        Some(known) => {
            known.timeout_ms = terms.timeout_ms.unwrap_or(known.timeout_ms);
            known.concurrency = terms.concurrency.unwrap_or(known.concurrency);
            known.rate_per_s = terms.rate.or(known.rate_per_s);
            known.batch_events = terms.batch.unwrap_or(known.batch_events);
            if let Some(retry) = &terms.retry {
                let waits = retry.split(',').map(str::trim).filter(|wait| !wait.is_empty()).map(str::parse);
                known.retry = waits.collect::<Result<_, _>>().context("--retry")?;
            }
            known.order = match terms.order {
                Some(OrderArg::None) => Order::None,
                Some(OrderArg::Subject) => Order::Subject,
                None => known.order,
            };
            known.auth = auth.or(known.auth.take());
            if let Some(Tls { ca, certificate }) = tls {
                let before = known.tls.take().unwrap_or(Tls { ca: None, certificate: None });
                let (ca, certificate) = (ca.or(before.ca), certificate.or(before.certificate));
                known.tls = Some(Tls { ca, certificate });
            }
            let is_new = |name: &&String| !known.headers.iter().any(|other| other.eq_ignore_ascii_case(name));
            let new: Vec<_> = secrets.headers.keys().filter(is_new).cloned().collect();
            known.headers.extend(new);
        }
    }
    Ok(declaration)
}

/// The TLS settings that the options give; their key is a secret.
fn tls(terms: &Terms) -> Result<Option<Tls>> {
    let read = |file: &Option<PathBuf>| file.as_deref().map(secret_input::read).transpose();
    let tls = Tls { ca: read(&terms.tls_ca)?, certificate: read(&terms.tls_certificate)? };
    Ok((tls.ca.is_some() || tls.certificate.is_some()).then_some(tls))
}

/// Takes away what the options of an edit say.
fn without(declaration: &mut Declaration, args: &Edit) -> Result<()> {
    let Edit { no_filter, no_transform, no_header, no_auth, no_rate, no_tls, no_user, .. } = args;
    declaration.filter = declaration.filter.take().filter(|_| !no_filter);
    declaration.transform = declaration.transform.take().filter(|_| !no_transform);
    match &mut declaration.queue {
        None if *no_user => bail!("--no-user goes with a queue only"),
        None => {}
        Some(queue) => queue.user = queue.user.take().filter(|_| !no_user),
    }
    let is_of_push = !no_header.is_empty() || *no_auth || *no_rate || *no_tls;
    let Some(push) = &mut declaration.push else {
        return if is_of_push { bail!("these options go with --push only") } else { Ok(()) };
    };
    for name in no_header {
        let at = push.headers.iter().position(|other| other.eq_ignore_ascii_case(name));
        let Some(at) = at else {
            bail!(
                "--no-header {name}: there is no such header; expected one of: {}",
                push.headers.join(", ")
            );
        };
        push.headers.remove(at);
    }
    push.auth = push.auth.take().filter(|_| !no_auth);
    push.rate_per_s = push.rate_per_s.filter(|_| !no_rate);
    push.tls = push.tls.take().filter(|_| !no_tls);
    Ok(())
}

/// How requests are authenticated.
fn auth(terms: &Terms) -> Option<Auth> {
    let Terms { basic, bearer, oauth2, oauth2_client, oauth2_scope, .. } = terms;
    match (basic, bearer, oauth2) {
        (Some(username), ..) => Some(Auth::Basic { username: username.clone() }),
        (_, true, _) => Some(Auth::Bearer {}),
        (_, _, Some(token_url)) => Some(Auth::Oauth2 {
            token_url: token_url.clone(),
            client_id: oauth2_client.clone().unwrap_or_default(),
            scope: oauth2_scope.clone(),
        }),
        _ => None,
    }
}

/// A place of the feed as the API takes it: days and how long ago are made times.
fn place(text: &str, config: &Config) -> String {
    moment(text).map_or_else(
        |_| text.to_owned(),
        |moment: Moment| moment.time(&config.time.zone, local::zone()).to_string(),
    )
}

async fn add(args: Add, config: &Config) -> Result<()> {
    let Add { name, door, terms, begin, output: Output { json, api } } = args;
    let secrets = secret_input::given(&terms)?;
    let new = NewSubscription {
        declaration: declaration(&name, door, &terms, &secrets)?,
        secrets,
        begin: place(&begin, config),
        dry_run: false,
    };
    let added: Added = Api::new(&api, config)?.post(SUBSCRIPTIONS.name, &new).await?;
    if json {
        print_json(&added);
        return Ok(());
    }
    report::line(format!("Added {name}: {}.", added.subscription.topics.join(", ")));
    if let Some(note) = query_note(&new.declaration) {
        report::note(note);
    }
    print_once(&name, &added.shown_once);
    Ok(())
}

/// What is to be said of a URL: unlike headers it is no secret.
fn query_note(declaration: &Declaration) -> Option<&'static str> {
    let has_query = declaration.push.as_ref().is_some_and(|push| push.url.contains('?'));
    has_query.then_some(
        "The query of the URL is stored and shown as it is: a token belongs in a header (--header-file) or --auth-file",
    )
}

async fn show(Named { name, output }: Named, config: &Config) -> Result<()> {
    let api = Api::new(&output.api, config)?;
    let path = path(&name)?;
    let Some(found) = api.find::<Box<RawValue>>(&path).await? else {
        bail!("no subscription {name}; names are in `malote subscriptions list`");
    };
    match output.json {
        true => print_json(&found),
        false => report::print(&api.read::<SubscriptionDetail>(&path, found.get().as_bytes())?.described()),
    }
    Ok(())
}

impl Described for SubscriptionDetail {
    fn described(&self) -> String {
        let Self { row, declaration, backfill, failures, .. } = self;
        Fields::new(13)
            .text("name", &row.name)
            .text("door", &row.door)
            .text("state", &row.state)
            .text("reason", &row.reason)
            .text("topics", &row.topics.join(", "))
            .text("filter", &declaration.filter)
            .text("transform", &declaration.transform)
            .text("url", &declaration.push.as_ref().map(|push| &push.url))
            .text("position", &row.position)
            .text("lag", &row.lag)
            .text("backfill", &backfill.as_ref().map(history))
            .text("undelivered", &row.undelivered)
            .text("failures", &(*failures > 0).then_some(failures))
            .time("failing_since", &row.failing_since)
            .time("next_probe_at", &row.next_probe_at)
            .time("created_at", &self.created_at)
            .time("changed_at", &self.changed_at)
            .text
    }
}

/// History that is delivered again, in words.
fn history(backfill: &Backfill) -> String {
    let Backfill { cursor, until, rate_per_s } = backfill;
    format!("delivers again what is after {cursor}, up to {until}, at most {rate_per_s}/s")
}

async fn edit(args: Edit, config: &Config) -> Result<()> {
    let api = Api::new(&args.output.api, config)?;
    let SubscriptionDetail { declaration: known, version, .. } = find(&api, &args.name).await?;
    let secrets = secret_input::given(&args.terms)?;
    let mut declaration = known.clone();
    without(&mut declaration, &args)?;
    let mut declaration = edited(declaration, &args.terms, &secrets)?;
    let Edit { name, push, output: Output { json, .. }, .. } = args;
    match (&mut declaration.push, push) {
        (_, None) => {}
        (Some(known), Some(url)) => known.url = url,
        (None, Some(_)) => bail!("{name} is no push subscription; remove it, then add it again"),
    }
    let editing = Editing { declaration, secrets, version: Some(version), dry_run: false };
    let now: Edited = api.put(&path(&name)?, &editing).await?;
    if json {
        print_json(&now);
        return Ok(());
    }
    if let Some(note) = query_note(&now.declaration) {
        report::note(note);
    }
    let changes = subscriptions::file::changes(&known, &now.declaration);
    let secrets = now.secrets_changed.iter().map(|name| format!("secrets.{name} changed\n"));
    let text: String = changes.iter().map(|change| format!("{change}\n")).chain(secrets).collect();
    report::print(if text.is_empty() { "Nothing changed.\n" } else { &text });
    Ok(())
}

async fn pause(Pause { name, reason, api }: Pause, config: &Config) -> Result<()> {
    let api = Api::new(&api, config)?;
    let _: SubscriptionRow = api.post(&format!("{}/pause", path(&name)?), &Pausing { reason }).await?;
    report::line(format!(
        "{name} is paused. Its events wait; `malote subscriptions resume {name}` goes on with it."
    ));
    Ok(())
}

async fn resume(args: Resume, config: &Config) -> Result<()> {
    let Resume { name, all, since, none, api } = args;
    let api = Api::new(&api, config)?;
    let since = match since.as_deref().map(moment) {
        Some(Ok(moment)) => Some(moment.time(&config.time.zone, local::zone()).to_string()),
        Some(Err(error)) => bail!("--since: {error}"),
        None => None,
    };
    let deliver = match (all, none, since) {
        (_, _, Some(since)) => since,
        (_, true, _) => "none".to_owned(),
        (true, ..) => "all".to_owned(),
        _ => ask_what_waited(&find(&api, &name).await?, config)?,
    };
    let resumed: SubscriptionRow =
        api.post(&format!("{}/resume", path(&name)?), &Resuming { deliver }).await?;
    report::line(format!("{name} is {}.{}", word(&resumed.state), waiting(&resumed)));
    Ok(())
}

/// How many events wait, as a sentence.
fn waiting(row: &SubscriptionRow) -> String {
    match row.lag {
        None | Some(0) => String::new(),
        Some(1) => " 1 event waits.".to_owned(),
        Some(lag) => format!(" {lag} events wait."),
    }
}

fn word(value: &impl Serialize) -> String {
    view::shown(value).as_str().unwrap_or_default().to_owned()
}

/// What is to be asked about the events that waited, if any did.
fn question(SubscriptionDetail { row, backfill, .. }: &SubscriptionDetail) -> Option<String> {
    let history = backfill.as_ref().map(|_| " History is still being delivered again.");
    if row.state == State::Active || waiting(row).is_empty() && history.is_none() {
        return None;
    }
    Some(format!(
        "{} is {}.{}{} Deliver all, none, or those since a time (2026-11-22, 2h)?",
        row.name,
        word(&row.state),
        waiting(row),
        history.unwrap_or_default()
    ))
}

/// Which of the events that waited are delivered.
fn ask_what_waited(found: &SubscriptionDetail, config: &Config) -> Result<String> {
    let Some(question) = question(found) else { return Ok("all".to_owned()) };
    let answered = answer(&question, "Give --all, --since TIME or --none where nobody can be asked")?;
    match (answered.as_str(), moment(&answered)) {
        ("all" | "none", _) => Ok(answered.clone()),
        (_, Ok(moment)) => Ok(moment.time(&config.time.zone, local::zone()).to_string()),
        (_, Err(_)) => bail!("expected all, none, or a time, got {answered:?}: nothing was done"),
    }
}

async fn seek(Seek { name, to, rate, yes, api }: Seek, config: &Config) -> Result<()> {
    let api = Api::new(&api, config)?;
    let SubscriptionDetail { row: before, backfill, .. } = find(&api, &name).await?;
    let history = match (&backfill, rate) {
        (None, _) => "",
        (Some(_), Some(_)) => " What is left of the history that is being delivered again is included.",
        (Some(_), None) => " The history that is being delivered again ends.",
    };
    let question = match rate {
        Some(rate) => format!(
            "Events from {to} to the position of {name} are delivered again, at most {rate}/s.{history} Go on?"
        ),
        None => format!(
            "Events after {to} are delivered, again if they were before; of those before, only what waits for another \
             attempt is.{history} Set the position of {name}?"
        ),
    };
    if !yes {
        confirm(&question)?;
    }
    let seeking = Seeking { to: place(&to, config), rate_per_s: rate };
    let now: SubscriptionRow = api.post(&format!("{}/seek", path(&name)?), &seeking).await?;
    if rate.is_some() {
        report::line(format!(
            "{name} gets its history again beside the live events. `malote subscriptions show {name}` has how far that is."
        ));
        return Ok(());
    }
    let position = |row: &SubscriptionRow| row.position.clone().unwrap_or_default();
    report::line(format!("{name} goes on at {}.{}", position(&now), waiting(&now)));
    // The way back.
    report::note(format!("It was at {}", position(&before)));
    Ok(())
}

async fn test(args: Test, config: &Config) -> Result<()> {
    let Test { name, event, last, door, terms, reveal, output: Output { json, api } } = args;
    let api = Api::new(&api, config)?;
    let event = match event {
        Some(id) => Some(ids::whole(&[&EVENTS], &id, &api).await.context("--event")?.parse()?),
        None => None,
    };
    let secrets = secret_input::given(&terms)?;
    let declaration = match api.find::<SubscriptionDetail>(&path(&name)?).await? {
        None if terms.topics.is_none() => {
            bail!(
                "no subscription {name}; names are in `malote subscriptions list`, and --topics tries one that does not exist"
            )
        }
        None => {
            let door = DoorArgs { pull: door.push.is_none() && !door.queue, ..door };
            Some(declaration(&name, door, &terms, &secrets)?)
        }
        Some(found) => Some(edited(found.declaration, &terms, &secrets)?),
    };
    let trial = Trial { declaration, event, last };
    let revealing = if reveal { "?reveal=true" } else { "" };
    let outcome: TrialOutcome = api.post(&format!("{}/test{revealing}", path(&name)?), &trial).await?;
    match json {
        true => print_json(&outcome),
        false => report::print(&found(&outcome)),
    }
    Ok(())
}

/// What a trial found.
fn found(outcome: &TrialOutcome) -> String {
    let TrialOutcome { looked_at, of_topics, matching, failing, failure, deliveries } = outcome;
    let events = if *looked_at == 1 { "event" } else { "events" };
    let mut text = format!(
        "Of {looked_at} {events} on record, {of_topics} have one of its topics, and {matching} would be delivered.\n"
    );
    if let Some(failure) = failure {
        text += &format!("The filter fails on {failing}, first on {failure}\n");
    }
    if *matching > deliveries.len() as u64 {
        text += &format!("The last {}:\n", deliveries.len());
    }
    for TrialDelivery { id, topic, subject, body, error, .. } in deliveries {
        let subject = subject.as_deref().unwrap_or("-");
        let body = error.clone().unwrap_or_else(|| format!("{body:#}"));
        text += &format!("\n{id}  {topic}  {subject}\n{body}\n");
    }
    text + hidden(deliveries.iter().any(|delivery| delivery.masked))
}

async fn rotate_secret(Rotate { name, secret_file, keep_s, output }: Rotate, config: &Config) -> Result<()> {
    let secret = secret_file.as_deref().map(secret_input::read).transpose()?;
    let api = Api::new(&output.api, config)?;
    let once: ShownOnce =
        api.post(&format!("{}/rotate-secret", path(&name)?), &Rotation { secret, keep_s }).await?;
    match output.json {
        true => print_json(&once),
        false => print_once(&name, &once),
    }
    Ok(())
}

async fn remove(Remove { name, yes, api }: Remove, config: &Config) -> Result<()> {
    let api = Api::new(&api, config)?;
    let known = find(&api, &name).await?.row;
    if !yes {
        let held = match known.door {
            // The broker says what it holds now.
            DoorKind::Queue => may_remove(&api, &name).await.err().map(|error| format!(" {error}")),
            DoorKind::Push | DoorKind::Pull => Some(waiting(&known)),
        };
        confirm(&format!("Remove {name}?{}", held.unwrap_or_default()))?;
    }
    // What waits was told, or is not asked for.
    let _: SubscriptionRow = api.delete(&path(&name)?, &[("discard".to_owned(), "true".to_owned())]).await?;
    report::line(format!("Removed {name}."));
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        edit: Edit,
    }

    fn declared(push: serde_json::Value) -> Declaration {
        serde_json::from_value(json!({"name": "crm", "topics": ["recuperador:#"], "push": push})).unwrap()
    }

    /// What `edit` makes of a declaration, as its changes.
    fn changes(before: &Declaration, options: &[&str]) -> Result<Vec<String>> {
        let Line { edit } = Line::try_parse_from([&["edit", "crm"], options].concat())?;
        let mut declaration = before.clone();
        without(&mut declaration, &edit)?;
        let after = edited(declaration, &edit.terms, &secret_input::given(&edit.terms)?)?;
        Ok(subscriptions::file::changes(before, &after).iter().map(ToString::to_string).collect())
    }

    #[test]
    fn an_edit_takes_away_what_add_can_give() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let file = folder.path().join(name);
            std::fs::write(&file, text).unwrap();
            file.display().to_string()
        };
        let before = declared(json!({
            "url": "https://crm.example", "headers": ["X-Api-Key", "x-other"], "auth": {"bearer": {}}, "rate_per_s": 5,
            "tls": {"ca": "a", "certificate": "c"},
        }));
        let check = |options: &[&str], expect: &[&str]| {
            assert_eq!(changes(&before, options).unwrap(), expect, "{options:?}");
        };
        check(&["--no-header", "x-api-key"], &[r#"push.headers: ["X-Api-Key","x-other"] → ["x-other"]"#]);
        check(&["--no-auth"], &[r#"push.auth: {"bearer":{}} → none"#]);
        check(&["--no-rate"], &["push.rate_per_s: 5 → none"]);
        check(&["--no-tls"], &[r#"push.tls: {"ca":"a","certificate":"c"} → none"#]);
        check(&["--tls-ca", &file("ca", "b\n")], &[r#"push.tls.ca: "a" → "b""#]);
        let (certificate, key) = (file("certificate", "d"), file("key", "k"));
        let both = ["--tls-certificate", &certificate, "--tls-key", &key];
        check(&both, &[r#"push.tls.certificate: "c" → "d""#]);
        check(&["--header", "X-API-KEY: other"], &[]);
        check(
            &["--header", "x-new: 1"],
            &[r#"push.headers: ["X-Api-Key","x-other"] → ["X-Api-Key","x-other","x-new"]"#],
        );
        for options in [
            &["--no-auth", "--bearer", "--auth-file", "f"][..],
            &["--no-rate", "--rate", "4"],
            &["--no-tls", "--tls-ca", "f"],
            &["--tls-certificate", "f"],
            &["--no-header", "x-unknown"],
            &["--no-user"],
        ] {
            assert!(changes(&before, options).is_err(), "{options:?}");
        }
        let queue: Declaration =
            serde_json::from_value(json!({"name": "crm", "topics": ["a:#"], "queue": {"user": "crm"}}))
                .unwrap();
        assert_eq!(changes(&queue, &["--no-user"]).unwrap(), [r#"queue.user: "crm" → none"#]);
        assert!(changes(&queue, &["--no-auth"]).unwrap_err().to_string().contains("--push only"));
    }

    #[test]
    fn a_token_in_a_url_is_noted_since_everybody_sees_it() {
        let noted = |url: &str| query_note(&declared(json!({"url": url}))).is_some();
        assert!(noted("https://crm.example/?token=hunter2") && !noted("https://crm.example/hooks"));
    }

    #[test]
    fn resuming_asks_if_anything_waits_events_or_history() {
        let detail = |state: &str, lag: i64, backfill: serde_json::Value| -> SubscriptionDetail {
            serde_json::from_value(json!({
                "name": "crm", "door": "push", "topics": ["a:#"], "state": state, "reason": null, "position": "1.0",
                "lag": lag, "undelivered": 0, "declaration": declared(json!({"url": "https://crm.example"})),
                "backfill": backfill, "version": 1, "failures": 0, "failing_since": null, "next_probe_at": null,
                "created_at": "2026-11-22T16:00:00Z", "changed_at": "2026-11-22T16:00:00Z",
            }))
            .unwrap()
        };
        let none = serde_json::Value::Null;
        assert_eq!(question(&detail("paused", 0, none.clone())), None);
        assert_eq!(question(&detail("active", 3, none.clone())), None);
        let asked = question(&detail("failing", 3, none)).unwrap();
        assert!(asked.starts_with("crm is failing. 3 events wait. Deliver all, none"), "{asked}");
        let history = json!({"cursor": "1.0", "until": "2.0", "rate_per_s": 5});
        let found = detail("paused", 0, history);
        let asked = question(&found).unwrap();
        assert!(
            asked.starts_with("crm is paused. History is still being delivered again. Deliver"),
            "{asked}"
        );
        let shown = found.described();
        assert!(shown.contains("delivers again what is after 1.0, up to 2.0, at most 5/s"), "{shown}");
    }
}
