//! Which addresses are connected to.

use std::time::Duration;

use harness::{Receiver, Reply};
use tokio::net::TcpListener;

use super::{LONG, config, post, resolving, send, step};
use crate::resolve::Resolver;
use crate::{Client, Config, Request, SendError, Step};

fn only(allow: &[&str]) -> Config {
    Config { allow: allow.iter().map(|network| network.parse().unwrap()).collect(), ..Config::default() }
}

fn refused(error: SendError) -> String {
    let SendError::Refused(refused) = error else { panic!("{error:?}") };
    refused.address.to_string()
}

#[tokio::test]
async fn no_notation_of_loopback_is_connected_to_unless_it_is_allowed() {
    let receiver = Receiver::start().unwrap();
    let port = receiver.port();
    let (closed, open) = (Client::new(&Config::default()), Client::new(&only(&["127.0.0.0/8", "::1/128"])));
    for host in [
        "127.0.0.1",
        "2130706433",
        "0177.0.0.1",
        "0x7f.1",
        "127.1",
        "localhost",
        "LocalHost",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
    ] {
        let url = format!("http://{host}:{port}/");
        let error = send(&closed, post(&url)).await.expect_err(host);
        let said = error.to_string();
        assert!(said.contains("loopback") && said.contains("[outbound] allow"), "{said}");
        assert!(closed.check(&url.parse().unwrap()).is_err(), "{host}");
        assert!(open.check(&url.parse().unwrap()).is_ok(), "{host}");
        assert!(send(&open, post(&url)).await.unwrap().status.is_success(), "{host}");
    }
    assert_eq!(receiver.count(), 9);
    // Not every system resolves this one, and none needs to.
    let error = send(&closed, post(&format!("http://localhost.:{port}/"))).await.unwrap_err();
    assert_eq!(refused(error), "127.0.0.1");
}

#[tokio::test]
async fn a_name_is_refused_if_any_of_its_addresses_is_not_allowed() {
    let receiver = Receiver::start().unwrap();
    let url = format!("http://target.test:{}/", receiver.port());
    let client = resolving(&only(&["127.0.0.1/32"]), |_, _| vec!["127.0.0.1", "10.0.0.7"]);
    assert!(client.check(&url.parse().unwrap()).is_ok());
    let error = send(&client, post(&url)).await.unwrap_err();
    let expect = "target.test is refused: 10.0.0.7 is private, not public; to allow it, add \"10.0.0.7\" to [outbound] allow";
    assert_eq!(error.to_string(), expect);
    assert_eq!(refused(error), "10.0.0.7");
    assert_eq!(receiver.opened(), 0);
}

#[tokio::test]
async fn a_name_that_resolves_differently_later_is_checked_by_each_new_connection() {
    let receiver = Receiver::start().unwrap();
    let url = format!("http://target.test:{}/", receiver.port());
    let client = resolving(&only(&["127.0.0.1/32"]), |_, lookup| match lookup {
        0 => vec!["127.0.0.1"],
        _ => vec!["127.0.0.2"],
    });
    send(&client, post(&url)).await.unwrap();
    // An open connection stays at the address that was checked.
    receiver.answer(Reply::status(200).header("connection", "close"));
    send(&client, post(&url)).await.unwrap();
    assert_eq!((receiver.count(), receiver.opened()), (2, 1));
    let error = send(&client, post(&url)).await.unwrap_err();
    assert_eq!(refused(error), "127.0.0.2");
    assert_eq!(receiver.opened(), 1);
    assert_eq!(
        receiver.requests()[0].header("host"),
        Some(format!("target.test:{}", receiver.port()).as_str())
    );
}

#[tokio::test]
async fn a_connection_goes_to_the_first_address_that_answers() {
    let receiver = Receiver::start().unwrap();
    let client = resolving(&config(), |_, _| vec!["127.0.0.3", "127.0.0.2", "127.0.0.1"]);
    send(&client, post(&format!("http://target.test:{}/", receiver.port()))).await.unwrap();
    assert_eq!(receiver.count(), 1);
    let port = harness::free_port().unwrap();
    let error = send(&client, post(&format!("http://target.test:{port}/"))).await.unwrap_err();
    assert_eq!(error.to_string(), format!("target.test (127.0.0.1:{port}) cannot be reached"));
}

#[tokio::test]
async fn a_name_that_cannot_be_resolved_or_not_in_time_is_told_as_that() {
    let client = resolving(&config(), |_, _| Vec::new());
    let error = send(&client, post("http://target.test/path")).await.unwrap_err();
    assert_eq!(event::Chain(&error).to_string(), "target.test cannot be resolved: no such name");
    let never = || Resolver::new(Box::new(|_| Box::pin(std::future::pending())));
    let hurried = Config { connect_timeout_ms: 50, ..config() };
    let client = Client::with_resolver(&hurried, never());
    let error = send(&client, post("http://target.test/")).await;
    assert_eq!(
        error.as_ref().unwrap_err().to_string(),
        "target.test timed out after 50 ms, while resolving its name"
    );
    assert_eq!(step(error), Step::Resolve);
    // The time-out of the request is the other limit.
    let client = Client::with_resolver(&config(), never());
    let request = Request { timeout: Duration::from_millis(50), ..post("http://target.test/") };
    assert_eq!(step(send(&client, request).await), Step::Resolve);
}

#[tokio::test]
async fn a_target_that_never_negotiates_tls_stops_at_the_time_out_of_connecting() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let tls = crate::Tls::new(Some(Receiver::start_tls().unwrap().ca().as_bytes()), None).unwrap();
    let client = Client::new(&Config { connect_timeout_ms: 100, ..config() }).with_tls(tls);
    let sent = send(&client, Request { timeout: LONG, ..post(&url) }).await;
    assert_eq!(step(sent), Step::Tls);
}
