//! Credentials: headers, query strings and signatures of a request, and the address that it came from.

use std::net::{IpAddr, Ipv4Addr};

use arbitrary::Unstructured;
use event::Timestamp;
use http::{HeaderMap, HeaderName, HeaderValue};
use providers::auth::{Auth, Connection, Credentials, Signed, client_ip, parse_network};

/// One source for each mechanism, and one with several. `{}` stands for the secret.
const SOURCES: [&str; 11] = [
    "header = { name = \"x-secret\", secrets = [\"{}\"] }",
    "query = { name = \"token\", secrets = [\"{}\"] }",
    "basic = { username = \"malote\", passwords = [\"{}\"] }",
    "bearer = { secrets = [\"{}\", \"another one\"] }",
    "hmac = { header = \"x-signature\", secrets = [\"{}\"] }",
    "hmac = { header = \"x-signature\", encoding = \"base64\", algorithm = \"sha1\", prefix = \"sha1=\", secrets = [\"{}\"] }",
    "hmac = { header = \"x-signature\", timestamp = { header = \"x-time\" }, secrets = [\"{}\"] }",
    "standard_webhooks = { secrets = [\"whsec_{}\"] }",
    "signature = { header = \"x-signature\", field = \"v1\", signed = \"{field:t}.{body}\", timestamp = { field = \"t\" }, secrets = [\"{}\"] }",
    "oauth2 = { client_id = \"malote\", client_secrets = [\"{}\"] }",
    "query = { name = \"token\", secrets = [\"{}\"] }\nhmac = { header = \"x-signature\", secrets = [\"{}\"] }",
];

/// Base64, as Standard Webhooks has them.
const SECRET: &str = "bWFsb3RlLXNlY3JldC1vZi1hLXRlc3Q=";
const OTHER: &str = "b3RoZXItc2VjcmV0LW9mLWEtdGVzdA==";

/// Headers that a mechanism or [`client_ip`] reads.
const NAMES: [&str; 8] = [
    "authorization",
    "x-secret",
    "x-signature",
    "x-time",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "x-forwarded-for",
];

/// Source, header, header's length, text of the header, query and body.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "Basic bWFsb3RlOg==",
        "Bearer another one",
        "bearer  x",
        "sha1=0123abcdef",
        "v1,AAAA v1,BBBB v2,",
        "1764000000",
        "203.0.113.7, [2001:db8::1]:443, unknown",
        "token=a&token=b&%74oken=%FF",
    ];
    (0..88).map(|n: usize| [&[n as u8, (n / 11) as u8], texts[n % texts.len()].as_bytes()].concat()).collect()
}

fn auth(source: usize, secret: &str) -> Auth {
    toml::from_str(&SOURCES[source].replace("{}", secret)).expect("a source that is well formed")
}

pub(crate) fn run(input: &[u8]) {
    let mut input = Unstructured::new(input);
    let mut choose = |limit: usize| input.arbitrary::<u8>().map_or(0, |byte| usize::from(byte) % limit);
    let (source, name) = (choose(SOURCES.len()), choose(NAMES.len()));
    let text = input.take_rest();
    let now = Timestamp::from_second(1_764_000_000).expect("a valid time");
    let request =
        Request { headers: header(NAMES[name], text), query: String::from_utf8_lossy(text).into_owned() };

    let (auth, other) = (auth(source, SECRET), auth(source, OTHER));
    let signed = auth.sign(text, now);
    let proofs = signed.headers.iter().chain(&signed.query).map(|(_, value)| value.as_str());
    if !proofs.chain(["another one"]).any(|proof| holds(text, proof)) {
        assert!(request.check(&auth, text, now).is_err(), "an arbitrary request passes {}", SOURCES[source]);
    }
    let signed = Request::signed(signed);
    assert_eq!(signed.check(&auth, text, now), Ok(()), "a signed request is refused by {}", SOURCES[source]);
    assert!(signed.check(&other, text, now).is_err(), "another secret passes {}", SOURCES[source]);
    let changed = [text, b"x"].concat();
    let is_signature =
        ["hmac = ", "signature = ", "standard_webhooks = "].iter().any(|name| SOURCES[source].contains(name));
    assert_eq!(
        signed.check(&auth, &changed, now).is_err(),
        is_signature,
        "of a changed body: {}",
        SOURCES[source]
    );

    address(&request.headers, text);
    certificate(text, now);
}

/// Whether a text holds a proof, as it is or percent-encoded.
fn holds(text: &[u8], proof: &str) -> bool {
    let decoded = percent_encoding::percent_decode(text).decode_utf8_lossy();
    decoded.contains(proof) || String::from_utf8_lossy(text).contains(proof)
}

/// Who the client is, is the peer's word where the peer is no trusted proxy; a network reads as what it shows.
fn address(headers: &HeaderMap, text: &[u8]) {
    let peer = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7));
    assert_eq!(client_ip(peer, headers, &[]), peer);
    let trusted = [parse_network("203.0.113.0/24").expect("a network")];
    client_ip(peer, headers, &trusted);
    if let Ok(network) = parse_network(&String::from_utf8_lossy(text)) {
        assert_eq!(parse_network(&network.to_string()), Ok(network));
    }
}

/// The header of a proxy is no certificate of the source unless it has the subject that the source takes.
fn certificate(text: &[u8], now: Timestamp) {
    for format in ["subject", "xfcc"] {
        let auth = format!(
            "client_certificate = {{ proxy = {{ header = \"x-client\", format = \"{format}\", \
             verified = {{ header = \"x-verify\" }} }}, subjects = [\"CN={SECRET}\"] }}"
        );
        let auth: Auth = toml::from_str(&auth).expect("a source that is well formed");
        let mut headers = header("x-client", text);
        headers.insert("x-verify", HeaderValue::from_static("SUCCESS"));
        let request = Request { headers, query: String::new() };
        assert!(
            request.check(&auth, b"", now).is_err() || holds(text, SECRET),
            "an arbitrary {format} passes"
        );
    }
}

struct Request {
    headers: HeaderMap,
    query: String,
}

impl Request {
    fn signed(signed: Signed) -> Self {
        let mut headers = HeaderMap::new();
        for (name, value) in &signed.headers {
            let name: HeaderName = name.parse().expect("a header's name");
            headers.insert(name, value.parse().expect("a header's value"));
        }
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(&signed.query).finish();
        Self { headers, query }
    }

    fn check(&self, auth: &Auth, body: &[u8], now: Timestamp) -> Result<(), providers::auth::Denied> {
        let Self { headers, query } = self;
        let client_ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let connection = Connection::Proxy;
        auth.check(&Credentials { headers, query: Some(query.as_str()), client_ip, connection, body, now })
    }
}

fn header(name: &'static str, text: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_bytes(text) {
        headers.insert(name, value);
    }
    headers
}
