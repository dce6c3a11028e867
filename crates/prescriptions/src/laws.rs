//! What is known of a renewal after which webhooks: written once, run on each database.

use consumer::laws::{Webhook, events, handle, in_every_order};
use providers::beneficio_visao::{NAME, TOPICS};
use serde_json::{Value, json};
use store::{Page, Store, sql};
use view::Row as _;

use crate::{Filter, Prescription, PrescriptionState, Prescriptions};

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
    let text = |row| serde_json::to_string(row).expect("a row is JSON").replace(source, "");
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
macro_rules! prescriptions_laws {
    ($store:expr) => {
        store::law_tests! { $store, [$crate::DOMAIN.component], $crate =>
            a_renewed_prescription_has_eyes_and_files
            the_newest_state_stays
            a_request_is_known_by_person_and_partner_params
            a_broken_contract_is_permanent_and_names_the_path
            a_list_is_filtered_and_paged
        }
    };
}

#[cfg(test)]
mod sqlite {
    prescriptions_laws!(store::fresh_sqlite!());
}
