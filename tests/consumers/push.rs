//! Receives a push subscription: `WEBHOOK_SECRET=whsec_... push PORT`

use std::collections::HashSet;
use std::env;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::prelude::{BASE64_STANDARD, Engine};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

struct Receiver {
    key: Hmac<Sha256>,
    /// In a service: a unique key, written in the transaction of the effect.
    handled: Mutex<HashSet<String>>,
}

impl Receiver {
    /// Whether one of the signatures is that of the body, and the request is not an old one.
    fn verifies(&self, headers: &HeaderMap, body: &[u8]) -> Option<bool> {
        let header = |name| headers.get(name)?.to_str().ok();
        let (id, timestamp) = (header("webhook-id")?, header("webhook-timestamp")?);
        let now = std::time::UNIX_EPOCH.elapsed().ok()?.as_secs();
        let is_fresh = now.abs_diff(timestamp.parse().ok()?) <= 300;
        let mut mac = self.key.clone();
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        let fits = |signature: &str| {
            let signature = BASE64_STANDARD.decode(signature.strip_prefix("v1,")?).ok()?;
            mac.clone().verify_slice(&signature).ok()
        };
        Some(is_fresh && header("webhook-signature")?.split(' ').any(|signature| fits(signature).is_some()))
    }
}

async fn receive(State(receiver): State<Arc<Receiver>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    if receiver.verifies(&headers, &body) != Some(true) {
        return StatusCode::UNAUTHORIZED;
    }
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    // An event can arrive more than once.
    if receiver
        .handled
        .lock()
        .expect("nothing panics while it is locked")
        .insert(text("webhook-id").to_owned())
    {
        println!("{} {} {}", text("webhook-id"), text("ce-type"), String::from_utf8_lossy(&body));
    }
    StatusCode::NO_CONTENT // Only now is it delivered.
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let secret = env::var("WEBHOOK_SECRET")?;
    let key = BASE64_STANDARD.decode(secret.trim_start_matches("whsec_"))?;
    let receiver = Receiver { key: Hmac::new_from_slice(&key)?, handled: Mutex::default() };
    let port: u16 = env::args().nth(1).ok_or("the port is missing")?.parse()?;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    axum::serve(listener, Router::new().fallback(post(receive)).with_state(Arc::new(receiver))).await?;
    Ok(())
}
