//! Sources one by one: what ingresses report of their secrets, and what is configured.

use super::pages::Browser;
use super::*;
use crate::{ConfiguredSource, SenderPanel, Texts};

fn texts(en: &str, pt: &str) -> Texts {
    Texts { en: en.to_owned(), pt: pt.to_owned() }
}

/// A source as it is configured.
pub(super) fn configured(name: &str) -> ConfiguredSource {
    ConfiguredSource {
        source: name.to_owned(),
        provider: "gestao-online".to_owned(),
        address: format!("http://127.0.0.1:8080/webhooks/{name}"),
        expects: texts("the parameter token in the address", "o parâmetro token no endereço"),
        panel: (name == "go").then(|| SenderPanel {
            title: "Gestão Online".to_owned(),
            page: "https://gestao.example".to_owned(),
            text: texts("Address: <the secret>", "Endereço: <o segredo>"),
            stops: texts("Look into its queue.", "Veja a fila dele."),
        }),
    }
}

impl Console {
    /// What an ingress reports of a source.
    async fn report(&self, at: &str, source: Value) {
        let body = json!({"ingress": EventId::generate(), "counts": [], "at": at, "sources": [source]});
        let message = Message { body: body.to_string().into(), ..Message::default() };
        self.state.broker.publish(&self.state.layout.tallies(), "", message).await.unwrap();
        self.record().await;
    }
}

fn secret(place: usize, fingerprint: &str, used_at: Option<&str>) -> Value {
    json!({"setting": "query.secrets", "place": place, "fingerprint": fingerprint, "used_at": used_at})
}

#[tokio::test]
async fn a_source_says_which_of_two_secrets_is_still_used_and_why_a_request_was_refused() {
    let console = Console::start().await;
    let refusals =
        json!([{"reason": "not authenticated", "failed": "auth.query", "at": "2026-11-27T10:00:02Z"}]);
    let both = [secret(0, "f1", Some("2026-11-27T09:00:00Z")), secret(1, "f2", Some("2026-11-27T10:00:00Z"))];
    console
        .report("2026-11-27T10:00:05Z", json!({"source": "go", "secrets": both, "refusals": refusals}))
        .await;
    let found = json(console.get("/sources/go").await).await;
    let states: Vec<_> =
        found["secrets"].as_array().unwrap().iter().map(|one| one["state"].clone()).collect();
    assert_eq!(states, ["earlier", "latest"]);
    assert_eq!(found["secrets"][0]["setting"], "auth.query.secrets");
    assert_eq!(found["secrets"][0]["first_seen_at"], "2026-11-27T09:00:00Z");
    assert_eq!(found["refusals"][0]["failed"], "auth.query");
    assert_eq!(
        (&found["source"], &found["polling"], &found["documents"]),
        (&json!("go"), &json!(null), &json!(null))
    );
    assert!(!found.to_string().contains("f2"), "fingerprints stay in the store: {found}");

    // The ingress was restarted with the new secret alone, and has not seen it used.
    let rotated = [secret(0, "f2", None)];
    console.report("2026-11-27T11:00:00Z", json!({"source": "go", "secrets": rotated, "refusals": []})).await;
    let found = json(console.get("/sources/go").await).await;
    assert_eq!(found["secrets"][0]["used_at"], "2026-11-27T10:00:00Z");
    assert_eq!(
        (&found["secrets"][1]["state"], &found["secrets"][1]["removed_at"]),
        (&json!("removed"), &json!("2026-11-27T11:00:00Z"))
    );
    let missing = console.get("/sources/none").await;
    assert_eq!(missing.status(), StatusCode::NOT_FOUND);
    let detail = json(missing).await["detail"].take();
    assert_eq!(detail, "There is no source \"none\"; `malote sources list` lists those that there are.");
}

#[tokio::test]
async fn the_page_of_a_source_shows_its_secrets_and_what_to_enter_in_both_languages() {
    let console = Console::start().await;
    let used = Some("2026-11-27T10:00:00Z");
    let both = [secret(0, "f1", None), secret(1, "f2", used)];
    console.report("2026-11-27T10:00:05Z", json!({"source": "go", "secrets": both, "refusals": []})).await;
    let text = "INSERT INTO document_sources (source, cursor, failures, failing_since, credentials) \
                VALUES ('go', 'x', 3, 1795770000000000, '') RETURNING source";
    let mut tx = console.state.store.begin().await.unwrap();
    store::many::fetch(&mut tx, text.to_owned(), []).await.unwrap();
    tx.commit().await.unwrap();
    for (language, expect) in [
        (
            "en",
            [
                "latest",
                "unused",
                "Each of these secrets is accepted.",
                "No request of this source was refused.",
                "Address: &#60;the secret&#62;",
                "It is not polled.",
                "failing since",
            ],
        ),
        (
            "pt-BR",
            [
                "mais recente",
                "sem uso",
                "Cada um destes segredos é aceito.",
                "Nenhuma requisição desta fonte foi recusada.",
                "Endereço: &#60;o segredo&#62;",
                "Não é consultada.",
                "falhando desde",
            ],
        ),
    ] {
        let mut browser = Browser::new(&console, language);
        browser.log_in(&console.token(&format!("viewer-{}", language.to_lowercase()), "viewer").await).await;
        let page = browser.get("/sources/go").await;
        assert_eq!(page.status, 200, "{}", page.text);
        for expect in expect {
            assert!(page.text.contains(expect), "{expect}: {}", page.text);
        }
        for link in ["/events?source=go", "/rejected?source=go", "/documents?source=go"] {
            assert!(page.text.contains(&format!("href=\"{link}\"")), "{link}: {}", page.text);
        }
        assert_eq!(browser.get("/search?q=go").await.location, "/sources/go");
        let other = browser.get("/sources/me-filial-sul").await;
        assert!(!other.text.contains("https://gestao.example"), "{}", other.text);
        assert_eq!(browser.get("/sources/none").await.status, 404);
    }
}
