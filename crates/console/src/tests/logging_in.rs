//! Logging in: at a provider of OpenID Connect, and what the audit has of it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use access::Role;
use harness::{CLIENT, IdentityProvider};
use server::Peer;

use super::pages::Browser;
use super::subscribing::OURS;
use super::*;
use crate::{Oidc, OidcSettings};

/// A console whose users log in at a provider.
struct Provided {
    console: Console,
    provider: IdentityProvider,
}

/// A browser that has been sent to the provider.
struct Sent {
    address: String,
    cookie: String,
}

/// An answer to a browser: its status, its text, and its cookies by name.
struct Answer {
    status: u16,
    text: String,
    cookies: Vec<(String, String)>,
}

impl Provided {
    async fn start() -> Self {
        let mut console = Console::start().await;
        let provider = IdentityProvider::start().unwrap();
        let roles = [("operations", Role::Operator), ("staff", Role::Viewer)];
        let settings = OidcSettings {
            issuer: provider.issuer(),
            client_id: CLIENT.0.to_owned(),
            client_secret: Some(CLIENT.1.to_owned()),
            groups_claim: "groups".to_owned(),
            roles: roles.map(|(group, role)| (group.to_owned(), role)).into(),
        };
        let config =
            outbound::Config { allow: vec!["127.0.0.0/8".parse().unwrap()], ..outbound::Config::default() };
        console.state.oidc = Some(Oidc::new(settings, outbound::Client::new(&config)).unwrap());
        console.router = router(console.state.clone());
        Self { console, provider }
    }

    async fn get(&self, path: &str, cookie: &str) -> (Answer, String) {
        let mut request = Request::get(path).header("host", "127.0.0.1:8081");
        if !cookie.is_empty() {
            request = request.header("cookie", cookie);
        }
        // Each from an address of its own, so that none waits for another.
        let address = SocketAddr::from((next_address(), 4000));
        let request = request.extension(Peer::new(address)).body(Body::empty()).unwrap();
        let response = self.console.router.clone().call(request).await.unwrap();
        let location =
            response.headers().get("location").map_or("", |value| value.to_str().unwrap()).to_owned();
        let cookies = response.headers().get_all("set-cookie").iter().filter_map(|cookie| {
            let (name, rest) = cookie.to_str().ok()?.split_once('=')?;
            Some((name.to_owned(), rest.to_owned()))
        });
        let (status, cookies) = (response.status().as_u16(), cookies.collect());
        let text = String::from_utf8(bytes(response).await.to_vec()).unwrap();
        (Answer { status, text, cookies }, location)
    }

    async fn leave(&self) -> Sent {
        let (answer, address) = self.get("/login/oidc?next=%2Fdead", "").await;
        assert!(address.starts_with(&format!("{}/authorize?", self.provider.issuer())), "{}", answer.text);
        let [(name, cookie)] = answer.cookies.try_into().unwrap();
        assert!(
            name == "malote_oidc" && cookie.contains("; HttpOnly; SameSite=Lax; Max-Age=600"),
            "{cookie}"
        );
        Sent { address, cookie: format!("{name}={}", cookie.split(';').next().unwrap()) }
    }

    /// What the browser that was sent is answered when it comes back, as whom the provider knows with these claims.
    async fn come_back(&self, sent: &Sent, change: impl FnOnce(&mut Value)) -> Answer {
        let back = self.provider.authorize(&sent.address, change).unwrap();
        let path = back.strip_prefix("http://127.0.0.1:8081").unwrap_or_else(|| panic!("{back}"));
        self.get(path, &sent.cookie).await.0
    }

    /// Checks that somebody is refused, and that the page says why.
    async fn refuses(&self, change: impl FnOnce(&mut Value), status: u16, expect: &str) {
        let answer = self.come_back(&self.leave().await, change).await;
        assert_eq!(answer.status, status, "{expect}: {}", answer.text);
        assert!(answer.text.contains(expect), "{expect}: {}", answer.text);
        assert!(answer.cookies.is_empty(), "{:?}", answer.cookies);
    }
}

fn next_address() -> [u8; 4] {
    static ADDRESS: AtomicU32 = AtomicU32::new(0x0a00_0000);
    ADDRESS.fetch_add(1, Ordering::Relaxed).to_be_bytes()
}

fn operator(claims: &mut Value) {
    claims["email"] = json!("maria@example.com");
    claims["groups"] = json!(["staff", "operations", "others"]);
}

#[tokio::test]
async fn a_user_of_the_provider_has_the_highest_role_of_their_groups() {
    let provided = Provided::start().await;
    let (page, _) = provided.get("/login?next=%2Fdead", "").await;
    assert!(page.text.contains("href=\"/login/oidc?next=%2Fdead\""), "{}", page.text);
    let answer = provided.come_back(&provided.leave().await, operator).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    // The cookie of the session is only sent once a page of this site leads further.
    assert!(answer.text.contains("http-equiv=\"refresh\" content=\"0; url=/dead\""), "{}", answer.text);
    let cookies = &answer.cookies;
    let session = cookies.iter().find(|(name, _)| name == "malote_session").map(|(_, value)| value).unwrap();
    assert!(session.contains("; HttpOnly; SameSite=Strict"), "{session}");
    assert!(
        cookies.iter().any(|(name, value)| name == "malote_oidc" && value.starts_with(';')),
        "{cookies:?}"
    );
    let session = format!("malote_session={}", session.split(';').next().unwrap());
    let (page, _) = provided.get("/events", &session).await;
    assert!(page.text.contains("maria@example.com · operator"), "{}", page.text);
    assert_eq!(provided.get("/tokens", &session).await.0.status, 403);
    let entries = provided.console.rows("/audit?who=maria@example.com").await;
    assert_eq!((&entries[0]["action"], &entries[0]["role"]), (&json!("POST /login"), &json!("operator")));
    let users = provided.console.rows("/users").await;
    let fields = ["name", "role", "login", "logins"].map(|field| users[0][field].clone());
    assert_eq!(fields, [json!("maria@example.com"), json!("operator"), json!("openid-connect"), json!(1)]);
    assert!(users[0]["client"].as_str().unwrap().starts_with("10.0."), "{users:?}");
}

#[tokio::test]
async fn who_the_provider_does_not_name_with_a_group_is_refused_and_told_what_to_do() {
    let provided = Provided::start().await;
    let no_group = |claims: &mut Value| claims["preferred_username"] = json!("rui");
    provided.refuses(no_group, 403, "among `console.oidc.roles`").await;
    let other_group = |claims: &mut Value| claims["groups"] = json!(["guests"]);
    provided.refuses(other_group, 403, "guests").await;
    // A name that a token could have is that of a token.
    let sent = provided.leave().await;
    let answer = provided.come_back(&sent, |claims| {
        claims["preferred_username"] = json!("installation");
        claims["groups"] = json!("staff");
    });
    let text = answer.await.text;
    assert!(text.contains("installation@127.0.0.1"), "{text}");
    // An address that nobody has checked is no name.
    let sent = provided.leave().await;
    let answer = provided.come_back(&sent, |claims| {
        operator(claims);
        claims["email_verified"] = json!(false);
    });
    let text = answer.await.text;
    assert!(text.contains("248289761001@127.0.0.1") && !text.contains("maria"), "{text}");
}

#[tokio::test]
async fn an_id_token_that_is_not_for_this_log_in_is_refused() {
    let provided = Provided::start().await;
    let with = |name: &'static str, value: Value| {
        move |claims: &mut Value| {
            operator(claims);
            claims[name] = value;
        }
    };
    provided.refuses(with("nonce", json!("another")), 401, "nonce").await;
    provided.refuses(with("aud", json!("another")), 401, "audience").await;
    provided.refuses(with("exp", json!(1_600_000_000)), 401, "xpired").await;
    provided.refuses(with("iss", json!("https://other.example")), 401, "issuer").await;
    let sent = provided.leave().await;
    let back = provided.provider.authorize(&sent.address, operator).unwrap();
    provided.provider.sign_with_another_key();
    let path = back.strip_prefix("http://127.0.0.1:8081").unwrap();
    let (answer, _) = provided.get(path, &sent.cookie).await;
    assert!(answer.status == 401 && answer.text.contains("Signature"), "{}", answer.text);
    // Another browser, and another log-in of the same one.
    let back = provided.provider.authorize(&sent.address, operator).unwrap();
    let path = back.strip_prefix("http://127.0.0.1:8081").unwrap();
    assert_eq!(provided.get(path, "").await.0.status, 401);
    let other = provided.leave().await;
    assert_eq!(provided.get(path, &other.cookie).await.0.status, 401);
    // A code that was used already.
    assert_eq!(provided.get(path, &sent.cookie).await.0.status, 200);
    assert_eq!(provided.get(path, &sent.cookie).await.0.status, 502);
    let denied = sent.address.split("state=").nth(1).unwrap().split('&').next().unwrap();
    let path = format!("/login/oidc/callback?error=access_denied&state={denied}");
    let (answer, _) = provided.get(&path, &sent.cookie).await;
    assert!(answer.status == 401 && answer.text.contains("access_denied"), "{}", answer.text);
    let failures = provided.console.rows("/audit?who=(nobody)&limit=100").await;
    assert_eq!(failures.len(), 9, "{failures:?}");
}

#[tokio::test]
async fn without_a_provider_there_is_no_such_log_in() {
    let console = Console::start().await;
    let browser = Browser::new(&console, "en");
    assert!(!browser.get("/login").await.text.contains("/login/oidc"));
    assert_eq!(browser.get("/login/oidc").await.status, 404);
    assert_eq!(browser.get("/login/oidc/callback?code=1&state=1").await.status, 404);
}

#[tokio::test]
async fn log_ins_that_fail_and_log_outs_are_in_the_audit_and_no_page_is_blank() {
    let console = Console::start().await;
    let from = |address: &str| Peer::new(format!("{address}:4000").parse().unwrap());
    let log_in = async |token: &str, peer: Peer, site: &str| {
        let form = Body::from(format!("token={token}&next=%2Fevents"));
        let request = Request::post("/login").header("sec-fetch-site", site).extension(peer);
        let response = console.router.clone().call(request.body(form).unwrap()).await.unwrap();
        let (status, head) = (response.status().as_u16(), response.headers().clone());
        (status, head, String::from_utf8(bytes(response).await.to_vec()).unwrap())
    };
    let (status, _, text) = log_in("nonsense", from("192.0.2.1"), "same-origin").await;
    assert!(status == 401 && text.contains("This token opens nothing"), "{text}");
    let (status, head, text) = log_in(OURS, from("192.0.2.1"), "same-origin").await;
    assert!(
        status == 429 && head.contains_key("retry-after") && text.contains("Wait a few seconds"),
        "{text}"
    );
    let (status, _, text) = log_in(OURS, from("192.0.2.2"), "cross-site").await;
    assert!(status == 403 && text.contains("Load it again"), "{text}");
    // Nobody else waits.
    let (status, head, _) = log_in(OURS, from("192.0.2.2"), "same-origin").await;
    assert_eq!(status, 303);
    let cookie = head["set-cookie"].to_str().unwrap().split(['=', ';']).nth(1).unwrap().to_owned();
    let browser = Browser { cookie, ..Browser::new(&console, "en") };
    let page = browser.get("/").await;
    assert_eq!(browser.submit(&page, "/logout", "").await.status, 303);
    let entry = |who: &str, what: &str, status| (who.to_owned(), what.to_owned(), status);
    assert_eq!(
        console.audited().await,
        [
            entry("(nobody)", "POST /login /login", 401),
            entry("installation", "POST /login /login", 303),
            entry("installation", "POST /logout /logout", 303),
        ]
    );
}

#[tokio::test]
async fn the_page_of_users_says_who_logs_in_how_and_leads_to_what_they_did() {
    let console = Console::start().await;
    let token = console.token("vera", "admin").await;
    let mut browser = Browser::new(&console, "en");
    browser.log_in(&token).await;
    browser.log_in(&token).await;
    let users = console.rows("/users?login=token").await;
    assert_eq!((users.len(), &users[0]["name"], &users[0]["logins"]), (1, &json!("vera"), &json!(2)));
    let page = browser.get("/tokens").await;
    assert!(page.text.contains("href=\"/users\""), "{}", page.text);
    let page = browser.get("/users").await;
    assert!(page.text.contains("href=\"/audit?who=vera\""), "{}", page.text);
    assert!(page.text.contains("href=\"/tokens\""), "{}", page.text);
    browser.log_in(&console.token("rui", "operator").await).await;
    assert_eq!(browser.get("/users").await.status, 403);
}

#[tokio::test]
async fn pages_load_nothing_from_elsewhere_as_their_policy_says() {
    let console = Console::start().await;
    let browser = Browser::new(&console, "en");
    let page = browser.get("/login").await;
    assert_eq!(
        page.response["content-security-policy"],
        "default-src 'self'; frame-ancestors 'none'; object-src 'none'; base-uri 'none'"
    );
    let icon = page.text.split("rel=\"icon\" href=\"").nth(1).unwrap().split('"').next().unwrap();
    let icon = browser.get(icon).await;
    assert_eq!((icon.status, icon.response["content-type"].to_str().unwrap()), (200, "image/svg+xml"));
}
