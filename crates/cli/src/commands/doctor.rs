//! `malote doctor`: checks everything that an installation needs, and says how to fix what is wrong.

mod broker;
mod files;
mod queues;
mod store;

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use console::Version;
use providers::auth::{Auth, Networks};
use server::{ComponentStatus, HealthStatus};

use crate::args::{ApiArgs, Doctor};
use crate::client::api::{Api, addresses, reachable};
use crate::config::{self, Config};
use crate::data_dir::{self, existing_token, open_mode};
use crate::report;
use crate::table::coloured;

#[derive(Default)]
struct Findings {
    wrong: usize,
    /// What was printed, without colours and fixes.
    lines: Vec<String>,
}

impl Findings {
    fn good(&mut self, text: impl AsRef<str>) {
        self.line("✓", "32", text.as_ref());
    }

    /// Works, and should be known.
    fn note(&mut self, text: impl AsRef<str>) {
        self.line("!", "33", text.as_ref());
    }

    fn bad(&mut self, text: impl AsRef<str>, fix: impl AsRef<str>) {
        self.wrong += 1;
        self.line("✗", "31", text.as_ref());
        report::line(format!("    {}", fix.as_ref()));
    }

    fn line(&mut self, mark: &str, colour: &str, text: &str) {
        let line = format!("{mark} {text}");
        match coloured() {
            true => report::line(format!("\x1b[{colour}m{mark}\x1b[0m {text}")),
            false => report::line(&line),
        }
        self.lines.push(line);
    }
}

/// Checks and prints. Status 1 if anything must be fixed.
pub async fn run(args: Doctor, config: &Config) -> Result<ExitCode> {
    let mut findings = Findings::default();
    findings.good("the configuration has no mistake");
    data_dir(config, &mut findings);
    files::check(config, &mut findings);
    let is_up = api(config, &mut findings).await;
    roles(config, &args.process, &mut findings).await;
    broker::look(config, is_up, &mut findings).await;
    store::check(config, &mut findings).await;
    sources(config, &mut findings);
    if is_up.is_none() {
        ports(config, &mut findings);
    }
    Ok(if findings.wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn data_dir(config: &Config, findings: &mut Findings) {
    let dir = &config.data.dir;
    match fs::metadata(dir) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => {
            let text = format!("the data directory {} is a file", dir.display());
            return findings
                .bad(text, "set data.dir to a folder, or to a path where the first start can create one");
        }
        Err(_) => return missing_data_dir(dir, findings),
    }
    if let Some(mode) = open_mode(dir) {
        let fix = format!("others can read it: chmod 700 {}", dir.display());
        findings.bad(format!("the data directory {} has mode {mode:o}", dir.display()), fix);
    }
    let mut files: Vec<_> =
        fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    files.sort();
    for file in files.into_iter().filter(|file| file.is_file()) {
        if let Some(mode) = open_mode(&file) {
            findings.bad(
                format!("{} has mode {mode:o}", file.display()),
                format!("chmod 600 {}", file.display()),
            );
        }
    }
    if let Err(error) = existing_token(dir)
        && config.console.token().is_none()
    {
        findings.bad(format!("{error:#}"), "or set console.token");
    }
    files::check_folder(dir, findings);
    if let Some(free) = free_megabytes(dir) {
        match free {
            0..1024 => findings.bad(
                format!("{free} MB are free there"),
                "make room: a full disk stops the embedded broker and store",
            ),
            _ => findings.good(format!("{} GB are free there", free / 1024)),
        }
    }
}

/// The first start makes it, if its nearest parent lets it.
fn missing_data_dir(dir: &Path, findings: &mut Findings) {
    let absolute = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    let parent = absolute.ancestors().skip(1).find(|parent| parent.exists()).unwrap_or(Path::new("/"));
    match tempfile::tempfile_in(parent) {
        Ok(_) => findings
            .note(format!("the data directory {} is not there yet: the first start makes it", dir.display())),
        Err(error) => findings.bad(
            format!("the data directory {} cannot be made in {}: {error}", dir.display(), parent.display()),
            "make it and give it to the user that runs malote, or set data.dir",
        ),
    }
}

fn free_megabytes(dir: &Path) -> Option<u64> {
    Some(::broker::free_bytes(dir)? / (1024 * 1024))
}

/// Whether the API answers: `None` when nobody listens.
async fn api(config: &Config, findings: &mut Findings) -> Option<bool> {
    let listens = tokio::net::TcpStream::connect(reachable(config.console.listen)).await.is_ok();
    if !listens {
        findings.note(format!(
            "nothing listens on {}: `malote up` or `malote console` serves the API there",
            config.console.listen
        ));
        return None;
    }
    let asked = match Api::new(&ApiArgs::default(), config) {
        Ok(api) => {
            api.get("version", &[]).await.map(|Version { version, .. }| (api.base().to_owned(), version))
        }
        Err(error) => Err(error),
    };
    match asked {
        Ok((base, version)) => {
            findings.good(format!("the API at {base} answers: malote {version}"));
            Some(true)
        }
        Err(error) => {
            let fix = "stop the process that uses the port, set console.listen, or use the configuration of that installation";
            findings.bad(format!("something listens on {} but: {error:#}", config.console.listen), fix);
            Some(false)
        }
    }
}

/// The problems that running processes report: a paused consumer, a filling spool.
async fn roles(config: &Config, processes: &[String], findings: &mut Findings) {
    let Ok(api) = Api::new(&ApiArgs::default(), config) else { return };
    // One process may answer on several ports.
    let mut reported = BTreeSet::new();
    for base in addresses(config, processes) {
        let Some(ready) = api.readiness(&base).await else {
            if !processes.is_empty() {
                findings.bad(format!("no answer from {base}"), "start that process, or give its address");
            }
            continue;
        };
        let mut is_in_trouble = false;
        for (name, ComponentStatus { status, trouble }) in &ready.components {
            let Some(trouble) = trouble else { continue };
            is_in_trouble = true;
            if reported.insert((name.clone(), trouble.clone())) {
                trouble_of(name, *status, trouble, &base, findings);
            }
        }
        let names = ready.components.into_keys().collect::<Vec<_>>().join(" ");
        if !is_in_trouble && reported.insert((names, String::new())) {
            findings.good(format!("the process at {base} is ready"));
        }
    }
}

/// The meaning of a failed component: whether work continues, and where it waits.
fn trouble_of(name: &str, status: HealthStatus, trouble: &str, base: &str, findings: &mut Findings) {
    let resumes = "it resumes automatically once that is fixed";
    match (name, status) {
        _ if trouble == "starting" => findings.note(format!("{name} of the process at {base} is starting")),
        ("spool", HealthStatus::Degraded) => {
            findings.note(format!("the ingress at {base} continues with its spool: {trouble}"))
        }
        ("spool.set_aside", HealthStatus::Degraded) => findings.bad(
            format!(
                "the spool of the ingress at {base} has events that the broker does not accept: {trouble}"
            ),
            "`malote queues` shows their queues; they are published once the broker accepts them",
        ),
        ("broker", HealthStatus::Degraded) => findings.note(format!(
            "the ingress at {base} continues without the broker, and stores events in its spool: {trouble}"
        )),
        ("store", _) => findings.bad(
            format!("the process at {base} is without its store: {trouble}"),
            format!("events wait in their queues, and nothing is booked; {resumes}"),
        ),
        (name, status) => match (name.strip_prefix("consumer."), status) {
            (Some(consumer), _) => findings.bad(
                format!("the consumer {consumer} at {base} is paused: {trouble}"),
                format!("its events wait in its queue; {resumes}"),
            ),
            (None, HealthStatus::Degraded) => {
                findings.note(format!("the process at {base} continues without {name}: {trouble}"))
            }
            (None, _) => {
                findings.bad(format!("the process at {base} is not ready, {name}: {trouble}"), resumes)
            }
        },
    }
}

fn sources(config: &Config, findings: &mut Findings) {
    if config.sources.is_empty() {
        findings.note(
            "no sources are configured, so nobody can post yet: add [[sources]] to malote.toml, as `malote config \
             show --default` shows",
        );
    }
    config::warnings(config).iter().for_each(|warning| findings.note(warning));
    for source in &config.sources {
        if let Some(what) = requirement(&source.auth) {
            findings.good(format!("the source {} {what}", source.name));
        }
    }
    let dir = &config.data.dir;
    match (config.is_embedded() || config.ingress.subject_key().is_some(), data_dir::has_subject_key(dir)) {
        (true, _) => {}
        (false, true) => findings.note(format!(
            "ingress.subject_key is not set: an ingress or a console beside this one needs the key in {}",
            data_dir::subject_key_file(dir).display()
        )),
        (false, false) => findings.note(data_dir::missing_subject_key(dir)),
    }
}

/// What a source requires of a request. `None` where anyone is accepted, which the warnings report.
fn requirement(auth: &Auth) -> Option<&'static str> {
    match auth {
        Auth::None => None,
        Auth::All(_) if auth.has_secret() => Some("asks for credentials"),
        Auth::All(required) if required.networks.as_ref().is_some_and(Networks::hold_everyone) => None,
        Auth::All(_) => Some("takes requests from its networks only"),
    }
}

fn ports(config: &Config, findings: &mut Findings) {
    for (name, listen) in [
        ("ingress.listen", config.ingress.listen),
        ("console.listen", config.console.listen),
        ("operations.listen", config.operations.listen),
    ] {
        match TcpListener::bind(listen) {
            Ok(_) => findings.good(format!("{name} {listen} is free")),
            Err(error) => findings.bad(
                format!("{name} {listen}: {error}"),
                format!("stop the process that uses it, or set {name}"),
            ),
        }
    }
}

/// Whether a version such as `14.2 (Debian 14.2-1)` is older.
fn is_older(version: &str, oldest: (u64, u64)) -> bool {
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < oldest
}

#[cfg(test)]
mod tests {
    use super::store::OLDEST_POSTGRESQL;
    use super::*;

    #[test]
    fn a_source_with_networks_only_asks_for_no_credentials() {
        let check = |auth: serde_json::Value, expect: Option<&str>| {
            assert_eq!(requirement(&serde_json::from_value(auth).unwrap()), expect);
        };
        check(serde_json::json!("none"), None);
        check(serde_json::json!({"networks": ["0.0.0.0/0"]}), None);
        check(serde_json::json!({"networks": ["10.0.0.0/8"]}), Some("takes requests from its networks only"));
        let both = serde_json::json!({"networks": ["10.0.0.0/8"], "bearer": {"secrets": ["a"]}});
        check(both, Some("asks for credentials"));
    }

    #[test]
    fn versions_are_compared_by_number() {
        assert!(is_older("14.2 (Debian 14.2-1)", OLDEST_POSTGRESQL));
        assert!(!is_older("15.14 (Debian 15.14-0+deb12u1)", OLDEST_POSTGRESQL));
    }
}
