//! What the providers post: their documented bodies with numbers of their own, in a mix that a day could have.
//!
//! Twenty requests are a round: three orders of Gestão Online's from creation to payment or cancellation, two agreements
//! of Recuperador's, two prescriptions, and notices of Mercado Eletrônico's. Three of the twenty have a topic that no
//! consumer takes. A body has 640 bytes in the mean.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use ::tests::cpf;
use ::tests::product::{Poster, example};
use anyhow::Result;
use event::{ProviderName, Topic};

/// Requests of one round.
pub const ROUND: usize = 20;

/// The name in [`TAKEN`] of what no consumer takes.
pub const UNROUTED: &str = "unrouted";

/// How many events of a round each consumer takes by its bindings.
pub static TAKEN: LazyLock<BTreeMap<&'static str, usize>> = LazyLock::new(|| {
    let mut taken = BTreeMap::from([("ledger", ROUND)]);
    for post in (0..ROUND).map(post) {
        let provider = ProviderName::new(post.provider).expect("a provider's name");
        let topic = Topic::new(post.topic).expect("a documented topic");
        let declared = domains::ALL.iter().map(|domain| &domain.bindings);
        let mut names: Vec<_> = consumer::takers(declared, &provider, &topic).collect();
        if names.is_empty() {
            names.push(UNROUTED);
        }
        names.into_iter().for_each(|name| *taken.entry(name).or_default() += 1);
    }
    taken
});

/// A body, and who posts it.
pub struct Post {
    /// The configured sender.
    pub source: &'static str,
    /// Its contract.
    pub provider: &'static str,
    /// What happened.
    pub topic: &'static str,
    /// The bytes.
    pub body: String,
}

/// The request of a number. No two are the same.
pub fn post(number: usize) -> Post {
    let round = number / ROUND;
    let order = |which: usize| (round * 3 + which) % 10_000_000_000;
    match number % ROUND {
        0 => notice(::tests::UNROUTED, "54421", round),
        1 => order_notice("ORDER_CREATED", order(0)),
        2 => agreement("acordo.cadastrado", round * 2, 1),
        3 => order_notice("ORDER_CREATED", order(1)),
        4 => prescription(round * 2),
        5 => order_notice("ORDER_CREATED", order(2)),
        6 => order_notice("FINANCIAL_PAYMENT_STATUS", order(0)),
        7 => notice("invoice.created", "32211", round),
        8 => order_notice("FINANCIAL_PAYMENT_DISCHARGE", order(0)),
        9 => order_notice("FINANCIAL_PAYMENT_STATUS", order(1)),
        10 => agreement("acordo.cadastrado", round * 2 + 1, 1),
        11 => order_notice("TAX_INVOICE_CHANGE_STATUS", order(0)),
        12 => order_notice("FINANCIAL_PAYMENT_DISCHARGE", order(1)),
        13 => prescription(round * 2 + 1),
        14 => notice("invoice.status", "32211", round),
        15 => order_notice("TAX_INVOICE_CHANGE_STATUS", order(1)),
        16 => order_notice("ORDER_CANCEL", order(2)),
        17 => agreement("acordo.quitado", round * 2, 2),
        18 => order_notice("ORDER_DELIVERY_CHANGE_STATUS", order(0)),
        _ => notice("supplier.updated", "32111", round),
    }
}

fn notice(topic: &'static str, documented: &str, number: usize) -> Post {
    let body = example("mercado-eletronico", topic);
    let body = body.replace(&format!("\"{documented}\""), &format!("\"{number}\""));
    Post { source: "me", provider: "mercado-eletronico", topic, body }
}

fn order_notice(topic: &'static str, order: usize) -> Post {
    let body = example("gestao-online", topic)
        .replace("\"0000593098\"", &format!("\"{order:010}\""))
        .replace("\"100\"", &format!("\"{order}\""));
    Post { source: "go", provider: "gestao-online", topic, body }
}

/// `turn`: which of the agreement's webhooks it is.
fn agreement(topic: &'static str, number: usize, turn: usize) -> Post {
    let mut body = example("recuperador", topic)
        .replace("45031", &(1_000_000 + number).to_string())
        .replace("9100", &format!("{}9", 1_000_000 + number))
        .replace("7001", &format!("{}7", 1_000_000 + number));
    // The webhook's own id comes first.
    if let (Some(from), Some(to)) = (body.find("\"id\": "), body.find(',')) {
        body.replace_range(from + 6..to, &(number * 10 + turn + 1_000).to_string());
    }
    Post { source: "rec", provider: "recuperador", topic, body }
}

fn prescription(number: usize) -> Post {
    let body = example("beneficio-visao", "renewed").replace("99999999999", &cpf(number));
    Post { source: "visao", provider: "beneficio-visao", topic: "renewed", body }
}

/// The HTTP requests of these numbers, as their providers send and sign them.
pub fn requests(poster: &Poster, numbers: std::ops::Range<usize>) -> Result<Vec<Vec<u8>>> {
    numbers.map(|number| request(poster, number)).collect()
}

fn request(poster: &Poster, number: usize) -> Result<Vec<u8>> {
    let Post { source, body, .. } = post(number);
    let request = poster.request("http://127.0.0.1", source, body).build()?;
    let url = request.url();
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut bytes = format!("POST {}{query} HTTP/1.1\r\nhost: 127.0.0.1\r\n", url.path()).into_bytes();
    for (name, value) in request.headers() {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            bytes.extend_from_slice(part);
        }
    }
    let body = request.body().and_then(reqwest::Body::as_bytes).unwrap_or_default();
    bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
    bytes.extend_from_slice(body);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn bodies_have_the_promised_size_and_no_two_are_the_same() {
        let bodies: Vec<_> = (0..ROUND * 50).map(|number| post(number).body).collect();
        let mean = bodies.iter().map(String::len).sum::<usize>() / bodies.len();
        assert!((620..=680).contains(&mean), "{mean}");
        assert_eq!(bodies.iter().collect::<HashSet<_>>().len(), bodies.len());
        for body in &bodies {
            serde_json::from_str::<serde_json::Value>(body).unwrap();
        }
    }

    #[test]
    fn each_consumer_takes_as_many_as_is_said() {
        let expect =
            [("invoices", 4), ("ledger", 20), ("prescriptions", 2), ("receivables", 11), ("unrouted", 3)];
        assert_eq!(TAKEN.clone().into_iter().collect::<Vec<_>>(), expect);
    }
}
