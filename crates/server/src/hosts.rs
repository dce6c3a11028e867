//! The hosts that a port answers under: a defence against DNS rebinding, where a web page reaches a port of this
//! machine through a name of its own that resolves to it.
//!
//! Addresses are not affected: the listening address and those of the loopback are allowed, and every address if the
//! port listens on all.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use http::header::HOST;
use http::uri::Authority;
use http::{HeaderValue, Request, StatusCode, Version};
use serde::Deserialize;

use crate::operations::Operations;
use crate::problem::Problem;

/// A host name, without a scheme or a port.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct HostName(String);

/// The text is not a host name.
#[derive(Debug, thiserror::Error)]
#[error("expected a host name without scheme and port, such as malote.example.com")]
pub struct NotAHostName;

impl TryFrom<String> for HostName {
    type Error = NotAHostName;

    fn try_from(text: String) -> Result<Self, NotAHostName> {
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        let is_address = || text.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        match !text.is_empty() && text.chars().all(is_name) || is_address() {
            true => Ok(Self(text.trim_matches(['[', ']']).to_ascii_lowercase())),
            false => Err(NotAHostName),
        }
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which hosts a port answers under.
#[derive(Debug)]
pub(crate) struct Hosts {
    pub(crate) names: Vec<HostName>,
    pub(crate) listen: SocketAddr,
    /// The section of the configuration that sets the port, for the answer to a refused client.
    pub(crate) section: Option<&'static str>,
    /// The service answers under any host: it requires credentials that no browser has.
    pub(crate) any_for_service: bool,
}

impl Hosts {
    /// Refuses a request without a host, with several (RFC 9112, section 3.2), or with one that is not allowed.
    pub(crate) fn refusal<B>(&self, request: &Request<B>) -> Option<Problem> {
        let mut hosts = request.headers().get_all(HOST).iter();
        let host = hosts.next();
        let is_missing = match request.version() {
            // Optional there; browsers always send it.
            Version::HTTP_09 | Version::HTTP_10 => false,
            Version::HTTP_11 => host.is_none(),
            // `:authority` stands in for it (RFC 9113, section 8.3.1).
            _ => host.is_none() && request.uri().authority().is_none(),
        };
        if hosts.next().is_some() || is_missing {
            let problem = Problem::new(StatusCode::BAD_REQUEST);
            return Some(problem.detail("a request has one Host header or :authority; send exactly one"));
        }
        if self.any_for_service && !Operations::has(request.uri().path()) {
            return None;
        }
        let stated = host.map(authority).into_iter().chain(request.uri().authority().cloned().map(Some));
        let mut stated =
            stated.map(|authority| authority.is_some_and(|authority| self.allows(authority.host())));
        if stated.all(|is_allowed| is_allowed) {
            return None;
        }
        let setting = self.section.map_or_else(|| "hosts".to_owned(), |section| format!("{section}.hosts"));
        let detail = format!(
            "this port does not answer under the host that the request names; use its address, or add the host to \
             {setting} in the configuration"
        );
        Some(Problem::new(StatusCode::MISDIRECTED_REQUEST).detail(detail))
    }

    fn allows(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').trim_matches(['[', ']']);
        let listed = || self.names.iter().any(|name| name.0.eq_ignore_ascii_case(host));
        match host.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
            Ok(ip) if ip.is_loopback() => true,
            Ok(ip) => {
                let listen = self.listen.ip().to_canonical();
                ip == listen || listen.is_unspecified() || listed()
            }
            Err(_) => host.eq_ignore_ascii_case("localhost") || listed(),
        }
    }
}

fn authority(host: &HeaderValue) -> Option<Authority> {
    Authority::try_from(host.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(listen: &str) -> Hosts {
        let names = vec![HostName::try_from("Malote.example.com".to_owned()).unwrap()];
        Hosts { names, listen: listen.parse().unwrap(), section: Some("console"), any_for_service: false }
    }

    fn status(hosts: &Hosts, request: http::request::Builder) -> u16 {
        let refusal = hosts.refusal(&request.body(()).unwrap());
        refusal.map_or(200, |problem| problem.status().as_u16())
    }

    #[test]
    fn a_port_answers_under_its_own_hosts_only() {
        let check = |listen: &str, host: &str, expect: u16| {
            let request = Request::get("/api/v1/events").header(HOST, host);
            assert_eq!(status(&hosts(listen), request), expect, "{host} on {listen}");
        };
        let loopback = "127.0.0.1:8081";
        for host in
            ["localhost", "LOCALHOST:1", "127.0.0.1:8081", "[::1]:8081", "127.1.2.3", "malote.example.com."]
        {
            check(loopback, host, 200);
        }
        for host in [
            "rebound.example.net",
            "localhost.example.net",
            "malote.example.com.evil.net",
            "10.0.0.7",
            "",
            "a b",
        ] {
            check(loopback, host, 421);
        }
        check("10.0.0.7:8081", "10.0.0.7", 200);
        check("10.0.0.7:8081", "10.0.0.8", 421);
        check("0.0.0.0:8081", "10.0.0.8:8081", 200);
        check("[::]:8081", "[2001:db8::1]", 200);
        check("0.0.0.0:8081", "rebound.example.net", 421);
    }

    #[test]
    fn every_host_that_a_request_states_is_looked_at() {
        let hosts = hosts("127.0.0.1:8081");
        let absolute = || Request::get("http://rebound.example.net/api");
        assert_eq!(status(&hosts, absolute().header(HOST, "localhost")), 421);
        assert_eq!(status(&hosts, absolute().version(Version::HTTP_2)), 421);
        let ours = Request::get("http://localhost/api").version(Version::HTTP_2);
        assert_eq!(status(&hosts, ours), 200);
    }

    #[test]
    fn a_missing_or_a_second_host_is_a_bad_request_under_any_host_too() {
        let any = Hosts { any_for_service: true, ..hosts("127.0.0.1:8080") };
        let post = || Request::post("/webhooks/go");
        assert_eq!(status(&any, post()), 400);
        assert_eq!(status(&any, post().header(HOST, "localhost").header(HOST, "localhost")), 400);
        assert_eq!(status(&any, post().header(HOST, "hooks.example.com")), 200);
        assert_eq!(status(&any, post().version(Version::HTTP_10)), 200);
        assert_eq!(status(&any, post().version(Version::HTTP_2)), 400);
        assert_eq!(status(&any, post().version(Version::HTTP_2).header(HOST, "hooks.example.com")), 200);
        let authority = Request::post("http://hooks.example.com/webhooks/go").version(Version::HTTP_2);
        assert_eq!(status(&any, authority), 200);
        assert_eq!(status(&any, Request::get("/readyz").header(HOST, "rebound.example.net")), 421);
    }

    #[test]
    fn a_host_name_has_no_scheme_and_no_port() {
        for wrong in ["", "http://malote", "malote:8081", "*", "a b"] {
            assert!(HostName::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
        for right in ["malote", "a.b-c.example", "10.0.0.7", "::1", "[::1]"] {
            assert!(HostName::try_from(right.to_owned()).is_ok(), "{right}");
        }
    }
}
