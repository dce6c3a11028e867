//! `malote feed`: the events on record in their order, and those that follow.

use anyhow::Result;
use serde_json::Value;
use view::Form;

use super::api::Api;
use crate::args::Feed;
use crate::config::Config;
use crate::report;
use crate::table;

/// The most events of one answer.
const PART: u32 = 1_000;

/// How long an answer may wait for an event, in seconds: less than the client waits for the answer.
const WAIT_S: u32 = 20;

/// Prints events in their order: at most so many, or on and on.
pub async fn run(args: Feed, config: &Config) -> Result<()> {
    let api = Api::new(&args.api, config)?;
    let (mut after, mut left) = (args.after, args.limit);
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        let limit = if args.follow { PART } else { left.min(PART) };
        let wait = if args.follow { WAIT_S } else { 0 };
        let mut query: Vec<_> =
            [("after", after.clone()), ("limit", limit.to_string()), ("wait", wait.to_string())]
                .map(|(name, value)| (name.to_owned(), value))
                .into();
        query.extend(args.topics.clone().map(|topics| ("topics".to_owned(), topics)));
        let (lines, position, is_end) = tokio::select! {
            answered = api.feed(&query) => answered?,
            _ = interrupted.as_mut() => break,
        };
        for line in lines.lines() {
            match args.json {
                true => report::line(line),
                false => report::line(one_line(&api.read("feed", line.as_bytes())?)),
            }
        }
        let got = u32::try_from(lines.lines().count()).unwrap_or(u32::MAX);
        left = left.saturating_sub(got);
        after = position;
        if report::is_output_lost() || !args.follow && (is_end || left == 0) {
            break;
        }
    }
    // For the next time; not between the events.
    report::note(format!("Continue with --after {after}"));
    Ok(())
}

/// When, where from, what, about what, and the id.
fn one_line(event: &Value) -> String {
    let time = table::written(Form::Time, &event["time"]);
    let text = |name: &str| event[name].as_str().unwrap_or("-");
    format!("{time}  {}  {}  {}  {}", text("id"), text("source"), text("type"), text("subject"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_line_with_or_without_a_subject() {
        let event = |subject: Value| {
            serde_json::json!({
                "id": "0199d3c0-1f2e-7abc-8def-0123456789ab", "source": "/recuperador/rec-1", "type": "acordo.quitado",
                "subject": subject, "time": "2026-11-22T12:00:00Z"
            })
        };
        let line = one_line(&event("agreement/1".into()));
        assert!(
            line.ends_with(
                "  0199d3c0-1f2e-7abc-8def-0123456789ab  /recuperador/rec-1  acordo.quitado  agreement/1"
            ),
            "{line}"
        );
        assert!(one_line(&event(Value::Null)).ends_with("acordo.quitado  -"));
    }
}
