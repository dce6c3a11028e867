//! TLS is verified, with the authorities and the client certificate of the target.

use harness::Receiver;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::{client, config, post, resolving, send};
use crate::{SendError, Tls};

fn trusting(receiver: &Receiver) -> Tls {
    Tls::new(Some(receiver.ca().as_bytes()), None).unwrap()
}

#[tokio::test]
async fn only_a_certificate_of_the_trusted_authority_for_the_name_is_accepted() {
    let (receiver, stranger) = (Receiver::start_tls().unwrap(), Receiver::start_tls().unwrap());
    let own = client().with_tls(trusting(&receiver));
    assert!(send(&own, post(&receiver.url("/"))).await.unwrap().status.is_success());
    for (client, url) in [
        // The system does not know the authority.
        (client(), receiver.url("/")),
        // An authority in place of those of the system.
        (own, stranger.url("/")),
        // The right authority, and another name.
        (
            resolving(&config(), |_, _| vec!["127.0.0.1"]).with_tls(trusting(&receiver)),
            format!("https://target.test:{}/", receiver.port()),
        ),
    ] {
        let error = send(&client, post(&url)).await.unwrap_err();
        assert!(matches!(error, SendError::Tls { .. }), "{error:?}");
        assert!(event::Chain(&error).to_string().contains("certificate"), "{error:?}");
    }
    assert_eq!((receiver.count(), stranger.count()), (1, 0));
}

#[tokio::test]
async fn a_target_sees_the_client_certificate() {
    let receiver = Receiver::start_mutual_tls().unwrap();
    let ca = Some(receiver.ca().as_bytes());
    let without = client().with_tls(Tls::new(ca, None).unwrap());
    // With TLS 1.3, the refusal comes in place of the answer.
    let error = send(&without, post(&receiver.url("/"))).await.unwrap_err();
    assert!(matches!(error.kind(), "tls" | "protocol"), "{error:?}");
    let (certificate, key) = receiver.identity().unwrap();
    let with = client().with_tls(Tls::new(ca, Some((certificate.as_bytes(), key.as_bytes()))).unwrap());
    assert!(send(&with, post(&receiver.url("/"))).await.unwrap().status.is_success());
    assert_eq!(receiver.count(), 1);
}

#[tokio::test]
async fn a_target_that_speaks_no_tls_is_a_tls_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let client = client().with_tls(trusting(&Receiver::start_tls().unwrap()));
    let answer = async {
        let (mut tcp, _) = listener.accept().await.unwrap();
        tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        tcp
    };
    let (sent, _open) = tokio::join!(send(&client, post(&url)), answer);
    assert_eq!(sent.unwrap_err().kind(), "tls");
}
