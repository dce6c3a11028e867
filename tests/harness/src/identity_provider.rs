//! A small provider of OpenID Connect: discovery, keys, and a token endpoint that signs ID tokens (ES256).
//!
//! Nobody types a password: [`IdentityProvider::authorize`] is the person who logs in there.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};

use crate::receiver::{Received, Receiver, Reply};

/// The name of the client, and its secret.
pub const CLIENT: (&str, &str) = ("malote", "a secret of the client");

/// The provider. It ends when dropped.
pub struct IdentityProvider {
    receiver: Receiver,
    shared: Arc<Shared>,
}

struct Shared {
    /// The key that the provider shows, and one that it does not.
    keys: [EcdsaKeyPair; 2],
    asked: Mutex<Asked>,
}

/// What the last person who logged in came with, and what is said of them.
#[derive(Default)]
struct Asked {
    code: String,
    challenge: String,
    redirect: String,
    claims: Value,
    is_foreign: bool,
}

impl IdentityProvider {
    /// Starts on a free port.
    ///
    /// # Errors
    /// There is no free port.
    pub fn start() -> Result<Self> {
        let receiver = Receiver::start()?;
        let shared = Arc::new(Shared { keys: [key()?, key()?], asked: Mutex::default() });
        let (issuer, answering) = (receiver.url(""), Arc::clone(&shared));
        receiver.answer_with(move |request, _| answering.answer(&issuer, request));
        Ok(Self { receiver, shared })
    }

    /// Its address.
    pub fn issuer(&self) -> String {
        self.receiver.url("")
    }

    /// Logs somebody in at the address that a browser was sent to. `change` says what the ID token claims besides, or
    /// otherwise. Returns where the browser is sent.
    ///
    /// # Errors
    /// The address does not ask for what OpenID Connect needs.
    pub fn authorize(&self, address: &str, change: impl FnOnce(&mut Value)) -> Result<String> {
        let (_, query) = address.split_once('?').context("a query")?;
        let pairs: Vec<_> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let field = |name: &str| {
            let found = pairs.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone());
            found.with_context(|| format!("no {name} in {address}"))
        };
        let scopes = field("scope")?;
        anyhow::ensure!(scopes.split(' ').any(|scope| scope == "openid"), "scope: {scopes}");
        anyhow::ensure!(field("response_type")? == "code" && field("code_challenge_method")? == "S256");
        let now = SystemTime::UNIX_EPOCH.elapsed()?.as_secs();
        let mut claims = json!({
            "iss": self.issuer(), "aud": field("client_id")?, "sub": "248289761001", "iat": now, "exp": now + 300,
            "nonce": field("nonce")?,
        });
        change(&mut claims);
        let (code, redirect) = (format!("code-{now}"), field("redirect_uri")?);
        let back = form_urlencoded::Serializer::new(String::new())
            .append_pair("code", &code)
            .append_pair("state", &field("state")?)
            .finish();
        let challenge = field("code_challenge")?;
        let asked = Asked { code, challenge, redirect: redirect.clone(), claims, is_foreign: false };
        *self.shared.asked() = asked;
        Ok(format!("{redirect}?{back}"))
    }

    /// Signs the next ID token with a key that the provider does not show.
    pub fn sign_with_another_key(&self) {
        self.shared.asked().is_foreign = true;
    }
}

fn key() -> Result<EcdsaKeyPair> {
    let (algorithm, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
    let key = EcdsaKeyPair::generate_pkcs8(algorithm, &random).ok().context("a key")?;
    EcdsaKeyPair::from_pkcs8(algorithm, key.as_ref(), &random).ok().context("the key")
}

fn encoded(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

impl Shared {
    fn asked(&self) -> std::sync::MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, issuer: &str, request: &Received) -> Reply {
        let answer = match request.target.as_str() {
            "/.well-known/openid-configuration" => json!({
                "issuer": issuer, "authorization_endpoint": format!("{issuer}/authorize"),
                "token_endpoint": format!("{issuer}/token"), "jwks_uri": format!("{issuer}/keys"),
                "response_types_supported": ["code"], "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["ES256"],
            }),
            "/keys" => {
                let [x, y] = [1, 33]
                    .map(|from| URL_SAFE_NO_PAD.encode(&self.keys[0].public_key().as_ref()[from..from + 32]));
                json!({"keys": [{"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "x": x, "y": y}]})
            }
            "/token" => match self.token(request) {
                Some(token) => token,
                None => return reply(400, &json!({"error": "invalid_grant"})),
            },
            _ => return Reply::status(404),
        };
        reply(200, &answer)
    }

    /// The answer of the token endpoint, if the request is what the person has allowed.
    fn token(&self, request: &Received) -> Option<Value> {
        let mut asked = self.asked();
        let pairs: Vec<_> = form_urlencoded::parse(&request.body).into_owned().collect();
        let field = |name: &str| Some(pairs.iter().find(|(other, _)| other == name)?.1.as_str());
        let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, field("code_verifier")?.as_bytes()));
        let secret: String = form_urlencoded::byte_serialize(CLIENT.1.as_bytes()).collect();
        let basic = format!("Basic {}", STANDARD.encode(format!("{}:{secret}", CLIENT.0)));
        let is_allowed = !asked.code.is_empty()
            && field("grant_type")? == "authorization_code"
            && field("code")? == asked.code
            && field("redirect_uri")? == asked.redirect
            && challenge == asked.challenge
            && request.header("authorization")? == basic;
        if !is_allowed {
            return None;
        }
        // A code is used once.
        asked.code.clear();
        let head = json!({"alg": "ES256", "typ": "JWT"});
        let signed = format!("{}.{}", encoded(&head), encoded(&asked.claims));
        let key = &self.keys[usize::from(asked.is_foreign)];
        let signature = key.sign(&SystemRandom::new(), signed.as_bytes()).ok()?;
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
        Some(json!({"access_token": "at", "token_type": "Bearer", "expires_in": 300, "id_token": token}))
    }
}

fn reply(status: u16, body: &Value) -> Reply {
    Reply::status(status).header("content-type", "application/json").body(body.to_string())
}
