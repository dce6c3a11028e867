//! What is asked about jobs.

use store::{Page, Store};
use view::Row;

use crate::jobs::{Action, Job, JobFilter, JobState, NewJob, What, cancel, create};

/// Jobs are listed by what they do, to which rows, and by their state.
pub async fn jobs_are_listed_by_action_rows_and_state(store: &Store) {
    let zone = event::Zone::default();
    let mut ids = Vec::new();
    for (action, what) in [
        (Action::Retry, What::Dead),
        (Action::Retry, What::Unrouted),
        (Action::Replay, What::Events),
        (Action::Reconcile, What::Events),
    ] {
        let mut new = NewJob { requested_by: "maria".to_owned(), ..NewJob::new(action, what) };
        if action == Action::Reconcile {
            new.filter = serde_json::json!({"day": "2026-11-22"});
        }
        let job = create(store, &new, &[], &zone).await.expect("a job");
        ids.push(job.id);
    }
    cancel(store, ids[1].parse().expect("an id")).await.expect("it is cancelled");
    let listed = async |filter: JobFilter| {
        let mut connection = store.read().await.expect("a connection");
        let page = Job::page(&mut connection, &filter, &Page::first(9)).await.expect("a page");
        let place = |job: Job| ids.iter().position(|id| *id == job.id).expect("one of ours");
        page.items.into_iter().map(place).collect::<Vec<_>>()
    };
    let all = JobFilter::default;
    assert_eq!(listed(JobFilter { action: Some(Action::Retry), ..all() }).await, [1, 0]);
    assert_eq!(listed(JobFilter { what: Some(What::Events), ..all() }).await, [3, 2]);
    assert_eq!(listed(JobFilter { state: Some(JobState::Cancelled), ..all() }).await, [1]);
    let reconciling = JobFilter { action: Some(Action::Reconcile), state: Some(JobState::Waiting), ..all() };
    assert_eq!(listed(reconciling).await, [3]);
}
