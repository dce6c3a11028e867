//! The plans of lists: none reads more than its page.

use event::{EventId, ProviderName, SourceName, Subject};
use store::Page;
use store::laws::plan;
use store::many::Value;

use super::fresh;
use crate::origins::Origins;
use crate::{DeadFilter, EventFilter, RejectedFilter, UnroutedFilter};

#[tokio::test]
async fn every_list_walks_an_index_in_its_order() {
    let (store, _folder) = fresh().await;
    let cursor = Page { limit: 50, cursor: Some(EventId::generate().to_string()) };
    let mut statements: Vec<(String, Vec<Value>)> = Vec::new();
    let rejected_page =
        |filter: &RejectedFilter| crate::rejected::LIST.statement(crate::rejected::chosen(filter), &cursor);
    let unrouted_page = |filter: &UnroutedFilter, origins| {
        crate::unrouted::LIST.statement(crate::unrouted::chosen(filter, origins), &cursor)
    };
    let none = EventFilter::default();
    for state in ["pending", "handled", "routed", "dead", "unrouted"] {
        let state = serde_json::from_value(state.into()).unwrap();
        let filter = EventFilter { state, ..none.clone() };
        statements.push(crate::events::statement(&filter, &Origins::All, &[], &cursor));
    }
    // What a filter by source, provider or topic leaves: one, some, or more than are looked up.
    let of_origins = [Origins::Few(vec![1]), Origins::Few((1..=64).collect()), Origins::Many];
    let source = SourceName::new("go-1").ok();
    let provider = ProviderName::new("recuperador").ok();
    for filter in [
        none.clone(),
        EventFilter { subject: Some(Subject::new("order", "1")), ..none.clone() },
        EventFilter { from: Some(event::now()), to: Some(event::now()), ..none },
    ] {
        statements.push(crate::events::statement(&filter, &Origins::All, filter.subject.as_slice(), &cursor));
    }
    let filter = RejectedFilter { source: source.clone(), provider: provider.clone(), id: None };
    statements.push(rejected_page(&RejectedFilter { source: None, ..filter.clone() }));
    statements.push(rejected_page(&RejectedFilter { provider: None, ..filter }));
    statements.push(rejected_page(&RejectedFilter::default()));
    let filter = DeadFilter { consumer: Some("invoices".to_owned()), ..DeadFilter::default() };
    statements.push(crate::dead::statement(&filter, &cursor));
    statements.push(crate::dead::statement(
        &DeadFilter { source: source.clone(), ..DeadFilter::default() },
        &cursor,
    ));
    statements.push(crate::dead::statement(&DeadFilter { provider, ..DeadFilter::default() }, &cursor));
    let by_source = EventFilter { source: source.clone(), ..EventFilter::default() };
    let marks = UnroutedFilter { source, ..UnroutedFilter::default() };
    for origins in &of_origins {
        statements.push(crate::events::statement(&by_source, origins, &[], &cursor));
        statements.push(unrouted_page(&marks, origins));
    }
    for (text, values) in statements {
        let plan = plan(&store, &text, values).await;
        let plan: Vec<&str> = plan.lines().collect();
        // Each of several alternatives walks an index to the end of the page: what they found is sorted together.
        let is_alternative = |step: &str| {
            let name = step.strip_prefix("SCAN a").unwrap_or_default();
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit())
        };
        let mut slow = Vec::new();
        for (at, step) in plan.iter().enumerate() {
            let is_sorted_page = step.contains("TEMP B-TREE") && at > 0 && is_alternative(plan[at - 1]);
            if (step.starts_with("SCAN") && !is_alternative(step))
                || (step.contains("TEMP B-TREE") && !is_sorted_page)
            {
                slow.push(*step);
            }
        }
        assert!(slow.is_empty(), "{slow:?} in {text}\n{plan:#?}");
    }
}
