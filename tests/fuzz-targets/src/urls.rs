//! URLs: those of the broker and of the store, whose passwords never show.

use broker_rabbitmq::AmqpUrl;

/// A password that is nowhere else in an input.
const PASSWORD: &str = "hunter2hunter2";

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    [
        "amqp://rabbit",
        "amqps://malote:{}@one:5671,two,[::1]:7/orders%2Feu",
        "amqp://malote:{}%2F%25@one/50%25",
        "amqp://malote:{}@one:http/v",
        "amqp://malote:5672/{}@one",
        "amqp://malote:{}/@one",
        "amqp://{}",
        "amqp://u:{}@one/v?heartbeat=10",
        "amqp://u:{}%@one/a/b",
        "postgres://malote:{}@db/malote?sslmode=require",
        "postgres://malote@db/malote?password={}",
        "postgresql://{}",
        "sqlite:store.db",
    ]
    .map(|text| text.replace("{}", PASSWORD).into_bytes())
    .into()
}

pub(crate) fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    amqp(text);
    let config = store::Config::new(text);
    config.is_exposed();
    hides(text, &format!("{config:?}"));
}

/// What is shown of a URL holds no password, and it reads as the same address.
fn amqp(text: &str) {
    let url: AmqpUrl = match text.parse() {
        Ok(url) => url,
        Err(error) => return hides(text, &format!("{error} {error:?}")),
    };
    let shown = url.to_string();
    hides(text, &format!("{shown} {url:?}"));
    let again: AmqpUrl =
        shown.parse().unwrap_or_else(|error| panic!("{shown} is shown and not read: {error}"));
    assert_eq!(again.to_string(), shown);
    assert_eq!((again.vhost(), again.is_exposed()), (url.vhost(), url.is_exposed()));
}

/// Where a password is written, and nothing else is the same, it is not shown: after the first `:` behind the scheme's and
/// before the last `@`, or as a parameter of its name.
fn hides(text: &str, shown: &str) {
    let rest = text.split_once("://").map_or("", |(_, rest)| rest);
    let credentials = rest.rsplit_once('@').map_or("", |(credentials, _)| credentials);
    let password = credentials.split_once(':').map_or("", |(_, password)| password);
    let is_written = password.contains(PASSWORD) || rest.contains(&format!("password={PASSWORD}"));
    if is_written && rest.matches(PASSWORD).count() == 1 {
        assert!(!shown.contains(PASSWORD), "a password is shown: {shown}");
    }
}
