//! What the page of a job has besides its row: the outcome of what it sent, and the same for more of the rows.

use ledger::jobs::JobOutcome;
use serde_json::Value;

use super::actions::{self, Action};
use super::rows::Fields;
use super::shell::{Shell, Visit};
use super::{Pages, read};

/// The outcome of what a job has sent, such as `3 handled, 9 died again`; `None` of a job that sends nothing.
pub(super) async fn outcome(
    pages: &Pages,
    visit: &Visit,
    shell: &Shell,
    id: &str,
    job: Option<&Fields>,
) -> Option<String> {
    let action = job?.get("action")?.as_str()?;
    if !matches!(action, "retry" | "replay") {
        return None;
    }
    let outcome: JobOutcome = read(pages, visit, &format!("/jobs/{id}/outcome")).await.ok()?;
    let JobOutcome { settled, dead, unrouted, pending, .. } = outcome;
    let part = |count: i64, text: String| (count > 0).then_some(text);
    let parts = [
        part(settled, shell.filled("{} handled", &[&settled])),
        part(dead, shell.filled("{} died again", &[&dead])),
        part(unrouted, shell.filled("{} unrouted again", &[&unrouted])),
        part(pending, shell.filled("{} pending", &[&pending])),
    ];
    let text = parts.into_iter().flatten().collect::<Vec<_>>().join(", ");
    Some(if text.is_empty() { shell.t("nothing was sent yet").to_owned() } else { text })
}

/// After a job that took a part of the rows: the same for more of them.
pub(super) fn further(job: &Fields, visit: &Visit) -> Vec<Action> {
    let text = |name: &str| job.get(name).and_then(Value::as_str).unwrap_or_default();
    let is_part = job.get("limit").is_some_and(Value::is_number);
    if !is_part || !matches!(text("action"), "retry" | "replay") {
        return Vec::new();
    }
    let fields = job.get("filter").and_then(Value::as_object).into_iter().flatten();
    let filter: Vec<_> =
        fields.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect();
    actions::offered_for_all(text("what"), &filter, visit)
}
