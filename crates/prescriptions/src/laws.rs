//! What is known of a renewal after which webhooks: written once, run on each database.

use consumer::laws::{Announced, Change, Webhook, announced_in_every_order, events, handle, in_every_order};
use event::Subject;
use providers::beneficio_visao::{NAME, TOPICS};
use serde_json::{Value, json};
use store::{Page, Store, sql};
use view::Row as _;

use crate::{FileFilter, Filter, Prescription, PrescriptionFile, PrescriptionState, Prescriptions};

/// A body about one person.
fn body(status: &str, more: &str) -> String {
    format!(r#"{{"cpf": "529.982.247-25", "email": "maria@example.com", "status": "{status}"{more}}}"#)
}

fn webhook<'a>(topic: &'a str, data: &'a str) -> Webhook<'a> {
    Webhook { provider: NAME, topic, data }
}

/// The prescriptions of a source as their JSON texts, which keep decimals as they are, without its name.
async fn prescriptions(store: &Store, source: &str) -> Vec<String> {
    let mut connection = store.read().await.expect("a connection");
    let filter = Filter { source: Some(source.to_owned()), ..Filter::default() };
    let page = Prescription::page(&mut connection, &filter, &Page::first(100)).await.expect("a list");
    let text = |row: &Prescription| {
        let text = serde_json::to_string(row).expect("a row is JSON");
        // The event that came first depends on the order of arrival.
        text.replace(source, "").replace(&format!(r#","event_id":"{}""#, row.event_id), "")
    };
    let mut rows: Vec<_> = page.items.iter().map(text).collect();
    rows.sort();
    rows
}

async fn after(store: &Store, webhooks: &[Webhook<'_>]) -> Vec<String> {
    in_every_order(store, &Prescriptions, webhooks, async |source| prescriptions(store, source).await).await
}

async fn history(store: &Store, source: &str) -> i64 {
    let mut connection = store.read().await.expect("a connection");
    sql::scalar("SELECT count(*) FROM prescription_history WHERE source = $1")
        .bind(source.to_owned())
        .fetch_one(&mut *connection)
        .await
        .expect("a count")
}

/// The documented renewal, with both eyes to the digit and both documents.
pub async fn a_renewed_prescription_has_eyes_and_files(store: &Store) {
    let example = TOPICS.iter().find_map(|info| info.example).expect("a documented body");
    let rows = after(store, &[webhook("renewed", example)]).await;
    assert_eq!(rows.len(), 1);
    let eye = r#"{"spherical":-0.75,"cylindrical":0,"axis":0,"add":0}"#;
    assert!(rows[0].contains(&format!(r#""right":{eye},"left":{eye}"#)), "{}", rows[0]);
    let row: Value = serde_json::from_str(&rows[0]).expect("JSON");
    assert_eq!((&row["document"], &row["state"]), (&json!("99999999999"), &json!("renewed")));
    assert_eq!(
        row["files"],
        json!([
            {"file_name": "Prescrição de óculos", "file_url": "https://.../document.pdf"},
            {"file_name": "Prescrição de lentes de contato", "file_url": "https://.../document.pdf"},
        ])
    );
}

/// A file is listed by its event, and archived once it was, whichever comes first.
pub async fn a_file_is_named_and_archived_in_any_order(store: &Store) {
    let renewed =
        body("renewed", r#", "files": [{"fileName": "óculos", "fileUrl": "https://example.com/1.pdf"}]"#);
    let key = providers::file_key("https://example.com/1.pdf", Some("óculos"));
    for is_archived_first in [false, true] {
        let source = format!("s-{}", event::EventId::generate());
        // Sent twice, it still is one file.
        let mut received = events(&source, &[webhook("renewed", &renewed), webhook("renewed", &renewed)]);
        let archived = json!({
            "provider": NAME, "source": source, "entity": "file", "external_id": key,
            "id": "0199d3c0-1f2e-7abc-8def-0123456789ab", "version": 1, "fetched_at": "2026-11-22T12:00:01Z",
            "content_type": "application/pdf", "size": 17, "sha256": "ab12",
        });
        let other = json!({"provider": "another", "source": source});
        for data in [archived, other] {
            let data = data.to_string();
            let own = Webhook { provider: event::ProviderName::OWN, topic: "file.fetched", data: &data };
            received.extend(events(&source, &[own]));
        }
        if is_archived_first {
            received.reverse();
        }
        handle(store, &Prescriptions, &received).await.expect("they are good");
        let mut connection = store.read().await.expect("a connection");
        let filter = FileFilter { source: Some(source.clone()), ..FileFilter::default() };
        let page = PrescriptionFile::page(&mut connection, &filter, &Page::first(10)).await.expect("a list");
        assert_eq!(page.items.len(), 1);
        let row = json!(page.items[0]);
        let expect = [("document", "52998224725"), ("file_name", "óculos"), ("sha256", "ab12")];
        for (name, value) in
            expect.into_iter().chain([("archive_id", "0199d3c0-1f2e-7abc-8def-0123456789ab")])
        {
            assert_eq!(row[name], value, "{row:#}");
        }
    }
}

/// The state received last stays, whole: what it does not hold is not left over from an older one.
pub async fn the_newest_state_stays(store: &Store) {
    let pending = body("pending", "");
    let analysis = body("in_analysis", r#", "eyeMeasurements": {"right": {"axis": 90}}"#);
    let rejected = body("rejected", r#", "reason": "ilegível""#);
    let renewed = body(
        "renewed",
        r#", "reason": null, "eyeMeasurements": {"left": {"spherical": 1.50, "add": "-0.250"}},
           "files": [{"fileName": "óculos", "fileUrl": "https://example.com/1.pdf"}]"#,
    );
    let webhooks = [
        webhook("pending", &pending),
        webhook("in_analysis", &analysis),
        webhook("rejected", &rejected),
        webhook("renewed", &renewed),
    ];
    let head = r#"{"source":"","document":"52998224725","email":"maria@example.com","state":"#;
    let check = async |webhooks: &[Webhook<'_>], tail: &str| {
        assert_eq!(after(store, webhooks).await, [format!("{head}{tail}")]);
    };
    check(&webhooks[..1], r#""pending","reason":null,"right":null,"left":null,"files":[]}"#).await;
    check(
        &webhooks[..2],
        r#""in_analysis","reason":null,"right":{"spherical":null,"cylindrical":null,"axis":90,"add":null},"left":null,"files":[]}"#,
    )
    .await;
    check(&webhooks[..3], r#""rejected","reason":"ilegível","right":null,"left":null,"files":[]}"#).await;
    check(
        &webhooks,
        r#""renewed","reason":null,"right":null,"left":{"spherical":1.50,"cylindrical":null,"axis":null,"add":-0.250},"files":[{"file_name":"óculos","file_url":"https://example.com/1.pdf"}]}"#,
    )
    .await;
}

/// Source, CPF and `partnerParams` make one request, however the parameters are written.
pub async fn a_request_is_known_by_person_and_partner_params(store: &Store) {
    let check = async |params: &[&str], expect: usize| {
        let bodies: Vec<String> = params.iter().map(|params| body("pending", params)).collect();
        let webhooks: Vec<_> = bodies.iter().map(|data| webhook("pending", data)).collect();
        assert_eq!(after(store, &webhooks).await.len(), expect, "{params:?}");
    };
    check(&["", r#", "partnerParams": null"#, r#", "partnerParams": {}"#, r#", "partnerParams": { }"#], 1)
        .await;
    check(
        &[
            r#", "partnerParams": {"a": [1, {"x": "ç", "y": null}], "b": 2}"#,
            r#", "partnerParams": {"b": 2, "a": [1, {"y": null, "x": "\u00e7"}]}"#,
        ],
        1,
    )
    .await;
    check(
        &[
            "",
            r#", "partnerParams": {"order": "1"}"#,
            r#", "partnerParams": {"order": "2"}"#,
            r#", "partnerParams": {"order": 2}"#,
        ],
        4,
    )
    .await;
    let other = body("pending", "").replace("529.982.247-25", "11144477735");
    let bare = body("pending", "").replace("529.982.247-25", "52998224725");
    let webhooks = [body("renewed", ""), other, bare];
    assert_eq!(after(store, &webhooks.each_ref().map(|data| webhook("pending", data))).await.len(), 2);
}

/// The change that a domain event announces.
fn change((_, _, data): &Announced) -> Option<Change> {
    Some((String::new(), data["previous_state"].clone(), data["state"].clone()))
}

/// Each change of a state is announced, whichever webhook comes first, with nothing about the person.
pub async fn the_changes_of_a_request_are_announced(store: &Store) {
    let states = ["pending", "in_analysis", "rejected", "renewed"];
    let bodies = states.map(|state| body(state, r#", "reason": "ilegível""#));
    let webhooks: Vec<_> = states.iter().zip(&bodies).map(|(state, data)| webhook(state, data)).collect();
    let told = announced_in_every_order(store, &Prescriptions, &webhooks, change).await;
    let data = |state, before: Option<&str>| json!({"state": state, "previous_state": before});
    let expect = [
        ("prescription.pending", data("pending", None)),
        ("prescription.in_analysis", data("in_analysis", Some("pending"))),
        ("prescription.rejected", data("rejected", Some("in_analysis"))),
        ("prescription.renewed", data("renewed", Some("rejected"))),
    ];
    let got: Vec<_> = told.into_iter().map(|(topic, _, data)| (topic, data)).collect();
    assert_eq!(got, expect);
    let again = [webhooks[0], webhooks[0], webhooks[3], webhooks[3]];
    assert_eq!(announced_in_every_order(store, &Prescriptions, &again, change).await.len(), 2);
}

/// The subject is the keyed hash that the ingress made.
pub async fn an_announcement_has_the_subject_of_its_cause(store: &Store) {
    let data = body("pending", "");
    let mut received = events("subject", &[webhook("pending", &data)]);
    received[0].subject = Some(Subject::new("prescription", "0a1b"));
    let announcements = handle(store, &Prescriptions, &received).await.expect("handled");
    assert_eq!(announcements[0].subject, received[0].subject);
}

/// A body that breaks its contract is refused for good, with the path and without the value, and leaves nothing behind.
pub async fn a_broken_contract_is_permanent_and_names_the_path(store: &Store) {
    let check = async |data: &str, expect: &str| {
        let events = events("broken", &[webhook("pending", data)]);
        let failure = handle(store, &Prescriptions, &events).await.expect_err("it is broken");
        assert!(matches!(&failure, consumer::Failure::Permanent(text) if text == expect), "{failure:?}");
    };
    check(r#"{"status": "pending"}"#, "cpf: missing").await;
    for cpf in ["5299822472", "12.345.678/0001-95", "5299822472X"] {
        check(&format!(r#"{{"cpf": "{cpf}", "status": "pending"}}"#), "cpf: expected a CPF of 11 digits")
            .await;
    }
    check(
        &body("renewed", r#", "eyeMeasurements": {"right": {"spherical": "abc"}}"#),
        "eyeMeasurements.right.spherical: expected a decimal, got a text of 3 characters",
    )
    .await;
    assert_eq!(prescriptions(store, "broken").await, [""; 0]);
    assert_eq!(history(store, "broken").await, 0);
}

/// Each event is in the history once; a list gives what its filter asks for, each row on one page.
pub async fn a_list_is_filtered_and_paged(store: &Store) {
    let bodies = [
        body("pending", ""),
        body("renewed", r#", "partnerParams": {"n": 2}"#),
        body("rejected", "").replace("529.982.247-25", "11144477735"),
        body("renewed", ""),
    ];
    let webhooks = bodies.each_ref().map(|data| webhook("pending", data));
    handle(store, &Prescriptions, &events("listed", &webhooks)).await.expect("handled");
    assert_eq!(history(store, "listed").await, 4);

    let mut connection = store.read().await.expect("a connection");
    let base = Filter { source: Some("listed".to_owned()), ..Filter::default() };
    let first = Prescription::page(&mut connection, &base, &Page::first(2)).await.expect("a page");
    assert_eq!(first.items[0].document, "11144477735");
    let second = Page { cursor: first.next, ..Page::first(2) };
    let second = Prescription::page(&mut connection, &base, &second).await.expect("a page");
    assert_eq!((second.items.len(), second.next), (1, None));
    let mut check = async |filter: Filter, expect: usize| {
        let rows =
            Prescription::page(&mut connection, &filter, &Page::first(10)).await.expect("a page").items;
        assert_eq!(rows.len(), expect);
    };
    check(Filter { state: Some(PrescriptionState::Renewed), ..base.clone() }, 2).await;
    check(Filter { document: Some("529.982.247-25".to_owned()), ..base.clone() }, 2).await;
    check(Filter { document: Some("nobody".to_owned()), ..base.clone() }, 0).await;
}

/// The laws as tests: see [`store::law_tests!`].
#[macro_export]
macro_rules! laws {
    ($store:expr) => {
        store::law_tests! { $store, [$crate::DOMAIN.component], $crate =>
            a_renewed_prescription_has_eyes_and_files
            a_file_is_named_and_archived_in_any_order
            the_newest_state_stays
            a_request_is_known_by_person_and_partner_params
            the_changes_of_a_request_are_announced
            an_announcement_has_the_subject_of_its_cause
            a_broken_contract_is_permanent_and_names_the_path
            a_list_is_filtered_and_paged
        }
    };
}

#[cfg(test)]
mod sqlite {
    laws!(store::fresh_sqlite!());
}
