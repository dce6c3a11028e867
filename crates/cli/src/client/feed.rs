//! `malote feed`: the events on record in their order, and those that follow.

use std::time::Duration;

use anyhow::Result;
use ledger::feed::FeedLine;

use super::api::Api;
use crate::args::feed::{Feed, Tail};
use crate::config::Config;
use crate::local;
use crate::report;

/// The most events of one answer.
const PART: u32 = 1_000;

/// How long an answer may wait for an event, in seconds: less than the client waits for the answer.
const WAIT_S: u32 = 20;

/// How long it takes until a console that is down is asked again.
const RETRY: Duration = Duration::from_secs(1);

/// `malote events tail`
pub async fn tail(Tail { source, topics, json, api }: Tail, config: &Config) -> Result<()> {
    let after = "now".to_owned();
    let feed = Feed { after, topics, follow: true, limit: PART, json, api };
    print(feed, source.as_deref(), config).await.map(drop)
}

/// `malote feed`
pub async fn run(args: Feed, config: &Config) -> Result<()> {
    let after = print(args, None, config).await?;
    // For the next time; not between the events.
    report::note(format!("Continue with --after {after}"));
    Ok(())
}

/// Prints events in their order, at most so many, or on and on; returns the position after them.
async fn print(args: Feed, source: Option<&str>, config: &Config) -> Result<String> {
    let api = Api::new(&args.api, config)?;
    let (mut after, mut left) = (args.after, args.limit);
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    let (mut has_begun, mut is_troubled) = (false, false);
    loop {
        let limit = if args.follow { PART } else { left.min(PART) };
        let wait = if args.follow { WAIT_S } else { 0 };
        let mut query: Vec<_> =
            [("after", after.clone()), ("limit", limit.to_string()), ("wait", wait.to_string())]
                .map(|(name, value)| (name.to_owned(), value))
                .into();
        query.extend(args.topics.clone().map(|topics| ("topics".to_owned(), topics)));
        let answered = tokio::select! {
            answered = api.feed(&query) => answered,
            _ = interrupted.as_mut() => break,
        };
        let (lines, position, is_end) = match answered {
            Ok(part) => part,
            // A restarted console continues where it was.
            Err(error) if args.follow && has_begun => {
                if !is_troubled {
                    report::note(format!("{error:#}; trying again"));
                }
                is_troubled = true;
                tokio::select! {
                    () = tokio::time::sleep(RETRY) => continue,
                    _ = interrupted.as_mut() => break,
                }
            }
            Err(error) => return Err(error),
        };
        if is_troubled {
            report::note("it continues");
        }
        (has_begun, is_troubled) = (true, false);
        for line in lines.lines() {
            let event: FeedLine = api.read("feed", line.as_bytes())?;
            if source.is_none_or(|source| event.source.rsplit('/').next() == Some(source)) {
                report::line(if args.json { line.to_owned() } else { one_line(&event) });
            }
        }
        let got = u32::try_from(lines.lines().count()).unwrap_or(u32::MAX);
        left = left.saturating_sub(got);
        after = position;
        if report::is_output_lost() || !args.follow && (is_end || left == 0) {
            break;
        }
    }
    Ok(after)
}

/// When, where from, what, about what, and the id.
fn one_line(event: &FeedLine) -> String {
    let FeedLine { id, source, topic, subject, time } = event;
    let subject = subject.as_deref().unwrap_or("-");
    format!("{}  {id}  {source}  {topic}  {subject}", local::time(*time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_line_with_or_without_a_subject() {
        let event = |subject: Option<&str>| FeedLine {
            id: "0199d3c0-1f2e-7abc-8def-0123456789ab".to_owned(),
            source: "/recuperador/rec-1".to_owned(),
            topic: "acordo.quitado".to_owned(),
            subject: subject.map(str::to_owned),
            time: "2026-11-22T12:00:00Z".parse().unwrap(),
        };
        let line = one_line(&event(Some("agreement/1")));
        assert!(
            line.ends_with(
                "  0199d3c0-1f2e-7abc-8def-0123456789ab  /recuperador/rec-1  acordo.quitado  agreement/1"
            ),
            "{line}"
        );
        assert!(one_line(&event(None)).ends_with("acordo.quitado  -"));
    }
}
