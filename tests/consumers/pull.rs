//! Reads a pull subscription: `MALOTE_TOKEN=malote_pull_... pull http://127.0.0.1:8081 NAME`

use std::env;
use std::time::Duration;

use serde_json::{Value, json};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Which cryptography rustls uses for https:// is for the program to say.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let token = env::var("MALOTE_TOKEN")?;
    let [Some(url), Some(name)] = [env::args().nth(1), env::args().nth(2)] else {
        return Err("the address of the API and the name of the subscription are missing".into());
    };
    let api = format!("{url}/api/v1/subscriptions/{name}");
    let client = reqwest::Client::builder().timeout(Duration::from_secs(60)).build()?;
    loop {
        let request = client.get(format!("{api}/events?wait=30")).bearer_auth(&token);
        let answer = request.send().await?.error_for_status()?;
        let position =
            answer.headers().get("malote-position").ok_or("the position is missing")?.to_str()?.to_owned();
        for line in answer.text().await?.lines() {
            let event: Value = serde_json::from_str(line)?;
            let text = |name: &str| event[name].as_str().unwrap_or_default();
            println!("{} {} {}", text("id"), text("type"), event["data"]);
        }
        // Only now are they delivered: until their position is stored, the same events are given again.
        let request =
            client.put(format!("{api}/cursor")).bearer_auth(&token).json(&json!({ "position": position }));
        request.send().await?.error_for_status()?;
    }
}
