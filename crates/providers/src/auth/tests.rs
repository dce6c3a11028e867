//! Every mechanism: right, wrong, missing, almost right, rotated, combined; and every mistake of a
//! configuration.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::*;

mod signatures;

const BODY: &[u8] = br#"{"topic": "order.created"}"#;
const INSIDE: &str = "203.0.113.7";

fn now() -> Timestamp {
    Timestamp::from_second(1_700_000_000).unwrap()
}

fn auth(toml: &str) -> Auth {
    #[derive(Deserialize)]
    struct Source {
        auth: Auth,
    }
    toml::from_str::<Source>(toml).unwrap().auth
}

/// A request in which everything is as a sender with the given configuration makes it.
struct Request {
    headers: HeaderMap,
    query: String,
    body: Vec<u8>,
    ip: &'static str,
    now: Timestamp,
}

impl Request {
    fn signed_by(auth: &Auth) -> Self {
        let signed = auth.sign(BODY, now());
        let mut request = Self::bare();
        for (name, value) in &signed.headers {
            request = request.with(name, value);
        }
        request.query = form_urlencoded::Serializer::new(String::new()).extend_pairs(&signed.query).finish();
        request
    }

    fn bare() -> Self {
        Self { headers: HeaderMap::new(), query: String::new(), body: BODY.to_vec(), ip: INSIDE, now: now() }
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
        self.headers.insert(name, http::HeaderValue::from_str(value).unwrap());
        self
    }

    fn adding(mut self, name: &'static str, value: &str) -> Self {
        self.headers.append(name, value.parse().unwrap());
        self
    }

    fn without(mut self, name: &str) -> Self {
        assert!(self.headers.remove(name).is_some(), "{name} was not there");
        self
    }

    fn query(self, query: &str) -> Self {
        Self { query: query.to_owned(), ..self }
    }

    fn body(self, body: &[u8]) -> Self {
        Self { body: body.to_vec(), ..self }
    }

    fn from(self, ip: &'static str) -> Self {
        Self { ip, ..self }
    }

    fn after_seconds(self, seconds: i64) -> Self {
        Self { now: Timestamp::from_second(now().as_second() + seconds).unwrap(), ..self }
    }

    fn check(&self, auth: &Auth) -> Result<(), Denied> {
        auth.check(&Credentials {
            headers: &self.headers,
            query: Some(&self.query),
            client_ip: self.ip.parse().unwrap(),
            connection: Connection::Unproved,
            body: &self.body,
            now: self.now,
        })
    }
}

/// What an operator changes in a configuration to let a new secret in before the old one goes.
fn rotated(toml: &str, list: &str) -> Auth {
    auth(&toml.replace(&format!("{list} = [\""), &format!("{list} = [\"old secret\", \"")))
}

const WRONG: Result<(), Denied> = Err(Denied::Credentials);

#[test]
fn a_secret_in_a_header_is_compared_whole() {
    let toml = r#"auth.header = {name = "X-Api-Key", secrets = ["correct horse"]}"#;
    let auth = auth(toml);
    assert_eq!(Request::signed_by(&auth).check(&auth), Ok(()));
    assert_eq!(Request::signed_by(&auth).check(&rotated(toml, "secrets")), Ok(()));
    let check = |request: Request, expect| assert_eq!(request.check(&auth), expect);
    check(Request::bare().with("x-API-key", "correct horse"), Ok(()));
    check(Request::bare(), WRONG);
    check(Request::bare().with("x-api-key", ""), WRONG);
    check(Request::bare().with("x-api-key", "correct hors"), WRONG);
    check(Request::bare().with("x-api-key", "correct horse "), WRONG);
    check(Request::bare().with("x-api-key", "Correct horse"), WRONG);
    check(Request::bare().with("x-api-keys", "correct horse"), WRONG);
    check(Request::signed_by(&auth).adding("x-api-key", "correct horse"), WRONG);
    check(Request::bare().query("x-api-key=correct+horse"), WRONG);
}

#[test]
fn a_token_in_the_query_string_is_decoded_and_must_be_there_once() {
    let toml = r#"auth.query = {name = "token", secrets = ["s&cret +1"]}"#;
    let auth = auth(toml);
    assert_eq!(Request::signed_by(&auth).query, "token=s%26cret+%2B1");
    assert_eq!(Request::signed_by(&auth).check(&auth), Ok(()));
    assert_eq!(Request::signed_by(&auth).check(&rotated(toml, "secrets")), Ok(()));
    let check =
        |query: &str, expect| assert_eq!(Request::bare().query(query).check(&auth), expect, "{query}");
    check("a=b&token=s%26cret%20%2B1", Ok(()));
    check("token=s%26cret+%2B1&token=s%26cret+%2B1", WRONG);
    check("token=s%26cret+%2B", WRONG);
    check("Token=s%26cret+%2B1", WRONG);
    check("token=", WRONG);
    check("", WRONG);
}

#[test]
fn basic_takes_the_user_name_and_a_live_password() {
    let toml = r#"auth.basic = {username = "me", passwords = ["pass:word"]}"#;
    let auth = auth(toml);
    assert_eq!(Request::signed_by(&auth).check(&auth), Ok(()));
    assert_eq!(Request::signed_by(&auth).check(&rotated(toml, "passwords")), Ok(()));
    let check = |value: &str, expect| {
        assert_eq!(Request::bare().with("authorization", value).check(&auth), expect, "{value}");
    };
    check("Basic bWU6cGFzczp3b3Jk", Ok(()));
    check("basic bWU6cGFzczp3b3Jk", Ok(()));
    check("Basic bWU6cGFzczp3b3I=", WRONG);
    check("Basic eW91OnBhc3M6d29yZA==", WRONG);
    check("Basic !", WRONG);
    check("Basic", WRONG);
    check("Bearer bWU6cGFzczp3b3Jk", WRONG);
    assert_eq!(Request::bare().check(&auth), WRONG);
}

#[test]
fn a_bearer_token_is_compared_whole() {
    let toml = r#"auth.bearer = {secrets = ["token-1"]}"#;
    let auth = auth(toml);
    assert_eq!(Request::signed_by(&auth).check(&auth), Ok(()));
    assert_eq!(Request::signed_by(&auth).check(&rotated(toml, "secrets")), Ok(()));
    let check = |value: &str, expect| {
        assert_eq!(Request::bare().with("authorization", value).check(&auth), expect, "{value}");
    };
    check("bearer token-1", Ok(()));
    check("Bearer token-2", WRONG);
    check("Bearer token-", WRONG);
    check("token-1", WRONG);
    assert_eq!(Request::bare().check(&auth), WRONG);
}

#[test]
fn hmac_gives_the_published_values() {
    // RFC 4231, test case 2, and RFC 2202, test case 2: key "Jefe".
    let check = |settings: &str, expect: &str| {
        let auth = auth(&format!("auth.hmac = {{header = \"X-Sig\", secrets = [\"Jefe\"], {settings}}}"));
        let body = b"what do ya want for nothing?";
        assert_eq!(auth.sign(body, now()).headers, [("x-sig".to_owned(), expect.to_owned())]);
        assert_eq!(Request::bare().body(body).with("x-sig", expect).check(&auth), Ok(()));
    };
    check("", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    check(
        r#"prefix = "sha256=", algorithm = "sha256", encoding = "hex""#,
        "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
    );
    check(r#"encoding = "base64""#, "W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM=");
    check(r#"algorithm = "sha1", prefix = "sha1=""#, "sha1=effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
}

#[test]
fn an_hmac_signature_covers_the_whole_body() {
    let toml = r#"auth.hmac = {header = "X-Bling-Signature-256", prefix = "sha256=", secrets = ["key"]}"#;
    let auth = auth(toml);
    let right = Request::signed_by(&auth);
    let signature = right.headers["x-bling-signature-256"].to_str().unwrap().to_owned();
    assert_eq!(right.check(&auth), Ok(()));
    assert_eq!(right.check(&rotated(toml, "secrets")), Ok(()));
    let check = |value: &str, expect| {
        assert_eq!(Request::bare().with("x-bling-signature-256", value).check(&auth), expect, "{value}");
    };
    check(&signature.replace("sha256=", "").to_uppercase().replacen("", "sha256=", 1), Ok(()));
    check(&signature.replace("sha256=", ""), WRONG);
    check(&signature.replace("sha256=", "sha1="), WRONG);
    check(&signature[..signature.len() - 2], WRONG);
    check(&signature[..signature.len() - 1], WRONG);
    check(&format!("{signature}00"), WRONG);
    check("sha256=", WRONG);
    check("sha256=zz", WRONG);
    assert_eq!(Request::bare().check(&auth), WRONG);
    assert_eq!(Request::signed_by(&auth).body(b"{}").check(&auth), WRONG);
    assert_eq!(Request::signed_by(&auth).body(b"").check(&auth), WRONG);
}

#[test]
fn a_standard_webhooks_signature_gives_the_published_value() {
    // The example of the Standard Webhooks reference libraries.
    let auth = auth(r#"auth.standard_webhooks = {secrets = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]}"#);
    let request = Request {
        now: Timestamp::from_second(1_614_265_330).unwrap(),
        ..Request::bare()
            .body(br#"{"test": 2432232314}"#)
            .with("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek")
            .with("webhook-timestamp", "1614265330")
            .with("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
    };
    assert_eq!(request.check(&auth), Ok(()));
}

#[test]
fn a_standard_webhooks_signature_covers_id_time_and_body_and_ages() {
    const OTHER: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let toml = r#"auth.standard_webhooks = {secrets = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]}"#;
    let auth_new = auth(toml);
    let both = auth(&toml.replace("[\"", &format!("[\"{OTHER}\", \"")));
    let right = || Request::signed_by(&auth_new);
    let signature = right().headers["webhook-signature"].to_str().unwrap().to_owned();
    assert_eq!(right().check(&both), Ok(()));
    let check = |request: Request, expect| assert_eq!(request.check(&auth_new), expect);
    check(right(), Ok(()));
    check(right().after_seconds(300), Ok(()));
    check(right().after_seconds(-300), Ok(()));
    check(right().after_seconds(301), WRONG);
    check(right().after_seconds(-301), WRONG);
    check(right().with("webhook-signature", &format!("v1,AAAA v1a,xyz {signature}")), Ok(()));
    check(right().with("webhook-signature", &signature.replace("v1,", "v2,")), WRONG);
    check(right().with("webhook-signature", "v1,"), WRONG);
    check(right().with("webhook-signature", ""), WRONG);
    check(right().with("webhook-id", "msg_other"), WRONG);
    check(right().with("webhook-timestamp", "1700000001"), WRONG);
    check(right().with("webhook-timestamp", "soon"), WRONG);
    check(right().with("webhook-timestamp", "-9223372036854775808"), WRONG);
    check(right().body(b"{}"), WRONG);
    check(right().without("webhook-id"), WRONG);
    check(right().without("webhook-timestamp"), WRONG);
    check(right().without("webhook-signature"), WRONG);
    assert_eq!(Request::signed_by(&both).check(&auth_new), WRONG, "the old secret is gone");
}

#[test]
fn an_address_must_be_in_a_network() {
    let auth = auth(r#"auth.networks = ["203.0.113.0/24", "198.51.100.9", "2001:db8::/32"]"#);
    let check = |ip, expect| assert_eq!(Request::bare().from(ip).check(&auth), expect, "{ip}");
    check("203.0.113.255", Ok(()));
    check("::ffff:203.0.113.7", Ok(()));
    check("198.51.100.9", Ok(()));
    check("2001:db8:9::1", Ok(()));
    check("203.0.114.0", Err(Denied::Network));
    check("198.51.100.8", Err(Denied::Network));
    check("2001:db9::1", Err(Denied::Network));
    check("127.0.0.1", Err(Denied::Network));
}

#[test]
fn all_that_is_given_must_pass_and_a_refusal_does_not_say_what_failed() {
    let auth = auth(
        r#"[auth]
           header = {name = "api-key", secrets = ["a"]}
           query = {name = "token", secrets = ["b"]}
           basic = {username = "me", passwords = ["c"]}
           hmac = {header = "X-ME-WEBHOOK-SIGNATURE", encoding = "base64", secrets = ["d"]}
           standard_webhooks = {secrets = ["whsec_AAAA"]}
           networks = ["203.0.113.0/24"]"#,
    );
    assert_eq!(auth.mistakes(), []);
    let right = || Request::signed_by(&auth);
    let check = |request: Request, expect| assert_eq!(request.check(&auth), expect);
    check(right(), Ok(()));
    for header in ["api-key", "authorization", "x-me-webhook-signature", "webhook-signature"] {
        check(right().without(header), WRONG);
    }
    check(right().query(""), WRONG);
    check(right().body(b"{}"), WRONG);
    check(right().from("127.0.0.1"), Err(Denied::Network));
    check(Request::bare().from("127.0.0.1"), Err(Denied::Network));
    assert_eq!(Denied::Credentials.to_string(), "the request is not authenticated as this source requires");
    assert_eq!(Denied::Network.to_string(), "the request is not allowed for this source");
    for (header, expect) in [("api-key", true), ("authorization", true), ("webhook-id", false)] {
        assert_eq!(auth.is_credential(header), expect, "{header}");
    }
}

#[test]
fn the_head_is_checked_before_the_body_is_there() {
    let auth = auth(
        r#"[auth]
           bearer = {secrets = ["a"]}
           hmac = {header = "x-signature", secrets = ["d"]}"#,
    );
    let check = |request: &Request, head, body| {
        let credentials = |body| Credentials {
            headers: &request.headers,
            query: None,
            client_ip: INSIDE.parse().unwrap(),
            connection: Connection::Unproved,
            body,
            now: now(),
        };
        assert_eq!(auth.check_head(&credentials(b"")).map_err(|(denied, _)| denied), head);
        assert_eq!(auth.check_body(&credentials(BODY)).map_err(|(denied, _)| denied), body);
    };
    check(&Request::signed_by(&auth), Ok(()), Ok(()));
    check(&Request::signed_by(&auth).without("authorization"), WRONG, Ok(()));
    check(&Request::signed_by(&auth).without("x-signature"), Ok(()), WRONG);
}

#[test]
fn what_tells_strangers_apart_by_the_head() {
    let check = |toml: &str, expect: bool| assert_eq!(auth(toml).is_in_head(), expect, "{toml}");
    let hmac = "auth.hmac = { header = \"x-signature\", algorithm = \"sha256\", encoding = \"hex\", secrets = [\"s\"] }";
    check(hmac, false);
    check("auth = \"none\"", false);
    check("auth.networks = [\"0.0.0.0/0\", \"203.0.113.0/24\"]", false);
    check("auth.networks = [\"0.0.0.0/1\", \"128.0.0.0/1\"]", false);
    check("auth.networks = [\"203.0.113.0/24\"]", true);
    // The signature authenticates the sender.
    check(&format!("{hmac}\nauth.networks = [\"203.0.113.0/24\"]"), false);
    check(&format!("{hmac}\nauth.query = {{ name = \"token\", secrets = [\"s\"] }}"), true);
    check("auth.bearer = { secrets = [\"s\"] }", true);
}

#[test]
fn none_has_to_be_written_out() {
    let none = auth(r#"auth = "none""#);
    assert_eq!(Request::bare().check(&none), Ok(()));
    assert_eq!(none.mistakes(), []);
    assert!(none.sign(BODY, now()) == Signed::default());
    let refused = |toml: &str, expect: &str| {
        let error = toml::from_str::<std::collections::BTreeMap<String, Auth>>(toml).unwrap_err();
        assert!(error.message().contains(expect), "{}", error.message());
    };
    refused(r#"auth = "hunter2""#, "expected \"none\" or a table of mechanisms, got another text");
    refused("auth = 1", "expected \"none\" or a table of mechanisms");
    refused(r#"auth = {token = "hunter2"}"#, "unknown field `token`, expected one of `header`, `query`");
    refused(r#"auth = {header = {name = "a b", secrets = []}}"#, "expected a header name");
    refused(r#"auth = {header = {name = "a"}}"#, "missing field `secrets`");
    refused(r#"auth = {hmac = {header = "a", algorithm = "md5", secrets = []}}"#, "unknown variant `md5`");
    refused(r#"auth = {networks = ["everywhere"]}"#, "expected a network such as 203.0.113.0/24");
}

#[test]
fn every_mistake_is_reported_with_its_path() {
    let check = |toml: &str, expect: &[&str]| {
        let mistakes = auth(toml).mistakes();
        assert_eq!(
            mistakes.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>(),
            expect,
            "{mistakes:?}"
        );
    };
    check("[auth]", &[""]);
    check(
        r#"[auth]
           header = {name = "authorization", secrets = []}
           query = {name = "", secrets = ["a", ""]}
           basic = {username = "a:b", passwords = []}
           bearer = {secrets = []}
           hmac = {header = "x", secrets = ["replace-me"], timestamp = {header = "X", tolerance_s = 0}}
           standard_webhooks = {secrets = ["whsec_?"]}
           networks = []"#,
        &[
            "header.secrets",
            "query.secrets[1]",
            "basic.passwords",
            "bearer.secrets",
            "hmac.secrets[0]",
            "standard_webhooks.secrets[0]",
            "networks",
            "hmac.timestamp.header",
            "hmac.timestamp.tolerance_s",
            "query.name",
            "basic.username",
            "basic",
            "bearer",
        ],
    );
    check(r#"auth.bearer = {secrets = ["a"]}"#, &[]);
}

#[test]
fn a_secret_is_never_shown() {
    let auth = auth(
        r#"[auth]
           header = {name = "x-api-key", secrets = ["hunter2"]}
           basic = {username = "me", passwords = ["hunter2"]}
           networks = ["10.0.0.0/8"]"#,
    );
    let shown = format!("{auth:?} {} {}", toml::to_string(&auth).unwrap(), Secret::from("hunter2"));
    assert!(
        !shown.contains("hunter2") && shown.contains("[secret]") && shown.contains("10.0.0.0/8"),
        "{shown}"
    );
}

#[test]
fn a_signed_time_makes_a_request_useless_later() {
    let auth = auth(
        r#"[auth]
           hmac = {header = "x-signature", secrets = ["a"], timestamp = {header = "x-time", tolerance_s = 60}}"#,
    );
    let right = || Request::signed_by(&auth);
    let check = |request: Request, expect| assert_eq!(request.check(&auth), expect);
    check(right(), Ok(()));
    check(right().after_seconds(60), Ok(()));
    check(right().after_seconds(-60), Ok(()));
    check(right().after_seconds(61), WRONG);
    check(right().after_seconds(-61), WRONG);
    check(right().without("x-time"), WRONG);
    check(right().with("x-time", "later"), WRONG);
    // The time is part of what is signed: "<time>.<body>".
    check(right().with("x-time", "1700000001"), WRONG);
    let Auth::All(all) = &auth else { panic!() };
    let plain = Hmac { timestamp: None, ..all.hmac.clone().unwrap() };
    let mut signed = Signed::default();
    plain.sign(&[b"1700000000.", BODY].concat(), now(), &mut signed);
    assert_eq!(signed.headers[0].1, right().headers["x-signature"].to_str().unwrap());
}

#[test]
fn without_a_secret_what_a_web_page_sends_is_refused() {
    let open = [auth(r#"auth = "none""#), auth(&format!("auth.networks = [\"{INSIDE}\"]"))];
    for auth in &open {
        assert!(!auth.has_secret());
        assert_eq!(Request::bare().check(auth), Ok(()));
        for (header, value) in
            [("origin", "https://a.example"), ("origin", "null"), ("sec-fetch-site", "cross-site")]
        {
            assert_eq!(
                Request::bare().with(header, value).check(auth),
                Err(Denied::Browser),
                "{header}: {value}"
            );
        }
        assert_eq!(Request::bare().with("sec-fetch-site", "none").check(auth), Ok(()));
    }
    // From outside the network nothing else can be learned.
    assert_eq!(
        Request::bare().with("origin", "null").from("127.0.0.1").check(&open[1]),
        Err(Denied::Network)
    );
    let secret = auth(r#"auth.bearer = {secrets = ["a"]}"#);
    assert_eq!(Request::signed_by(&secret).with("origin", "https://a.example").check(&secret), Ok(()));
}

#[test]
fn a_header_is_proved_by_its_signature_or_with_the_whole_request() {
    let check = |toml: &str, proved: &[&str]| {
        let auth = auth(toml);
        for header in ["x-topic", "webhook-id", "x-time"] {
            assert_eq!(auth.proves_header(header), proved.contains(&header), "{toml}: {header}");
        }
    };
    let all = ["x-topic", "webhook-id", "x-time"];
    check(r#"auth = "none""#, &all);
    check(r#"auth.bearer = {secrets = ["a"]}"#, &all);
    check(r#"auth.networks = ["10.0.0.0/8"]"#, &all);
    check(r#"auth.hmac = {header = "x-s", secrets = ["a"]}"#, &[]);
    check(r#"auth.hmac = {header = "x-s", secrets = ["a"], timestamp = {header = "x-time"}}"#, &["x-time"]);
    let standard = r#"auth.standard_webhooks = {secrets = ["whsec_c2VjcmV0"]}"#;
    check(standard, &["webhook-id"]);
    // The signed id identifies a repeated request.
    assert_eq!(auth(standard).duplicates().unwrap().header().unwrap().as_str(), "webhook-id");
    assert_eq!(auth(r#"auth = "none""#).duplicates(), None);
}

#[test]
fn a_secret_with_a_plus_works_as_it_was_pasted_into_the_address() {
    let auth = auth(r#"auth.query = {name = "token", secrets = ["ab+c/d=="]}"#);
    let check =
        |query: &str, expect| assert_eq!(Request::bare().query(query).check(&auth), expect, "{query}");
    check("token=ab+c/d==", Ok(()));
    check("token=ab%2Bc%2Fd%3D%3D", Ok(()));
    check("token=ab c/d==", WRONG);
    check("token=ab+c/d=", WRONG);
    check("token=ab+c/d==&token=ab+c/d==", WRONG);
}

#[test]
fn basic_credentials_are_read_in_utf_8_and_in_latin_1() {
    let auth = auth(r#"auth.basic = {username = "loja", passwords = ["coração:1"]}"#);
    let check = |pair: &[u8], expect| {
        let value = format!("Basic {}", STANDARD.encode(pair));
        assert_eq!(Request::bare().with("authorization", &value).check(&auth), expect, "{pair:x?}");
    };
    check("loja:coração:1".as_bytes(), Ok(()));
    check(b"loja:cora\xe7\xe3o:1", Ok(()));
    check(b"loja:cora\xe7\xe3o:2", WRONG);
    check(b"loja:coracao:1", WRONG);
}

#[test]
fn a_refusal_tells_the_sender_what_is_expected_and_the_log_what_failed() {
    let auth = auth(
        r#"auth.header = {name = "x-api-key", secrets = ["one"]}
           auth.query = {name = "token", secrets = ["two"]}
           auth.hmac = {header = "x-s", secrets = ["three"]}"#,
    );
    assert_eq!(auth.expected(), "the header x-api-key, the parameter token in the address, the header x-s");
    let headers = Request::signed_by(&auth).headers;
    let credentials = Credentials {
        headers: &headers,
        query: Some("token=tw"),
        client_ip: INSIDE.parse().unwrap(),
        connection: Connection::Unproved,
        body: b"other",
        now: now(),
    };
    let shown = |failed: Result<(), (Denied, Failed)>| {
        failed.map_err(|(denied, failed)| (denied, failed.to_string()))
    };
    assert_eq!(shown(auth.check_head(&credentials)), Err((Denied::Credentials, "auth.query".to_owned())));
    assert_eq!(shown(auth.check_body(&credentials)), Err((Denied::Credentials, "auth.hmac".to_owned())));
    let none = HeaderMap::new();
    let missing = Credentials { headers: &none, query: None, ..credentials };
    assert_eq!(
        shown(auth.check_head(&missing)),
        Err((Denied::Credentials, "auth.header, auth.query".to_owned()))
    );
}

#[test]
fn the_last_use_of_each_secret_is_known_and_survives_a_reload() {
    let toml = r#"auth.header = {name = "x-api-key", secrets = ["old", "new"]}
                  auth.hmac = {header = "x-s", secrets = ["three"]}"#;
    let before = auth(toml);
    let uses = |auth: &Auth| auth.last_uses().map(|(_, _, used)| used).collect::<Vec<_>>();
    assert_eq!(uses(&before), [None, None, None]);
    assert_eq!(Request::signed_by(&before).check(&before), Ok(()));
    assert_eq!(uses(&before), [Some(now()), None, Some(now())]);
    let request = Request::signed_by(&before).after_seconds(60).with("x-api-key", "wrong");
    assert_eq!(request.check(&before), WRONG);
    assert_eq!(uses(&before)[0], Some(now()), "a wrong secret is no use");
    let mut after = auth(&toml.replace(r#""old", "new""#, r#""next", "old""#));
    after.continue_from(&before);
    assert_eq!(uses(&after), [None, Some(now()), Some(now())]);
}
