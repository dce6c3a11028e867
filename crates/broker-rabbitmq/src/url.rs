//! Where RabbitMQ is and who asks: the AMQP URL, parsed.
//!
//! Promises that the password never shows in `Debug` or `Display`, nor in an error, and that an error says which
//! part is wrong. Several hosts are a cluster's nodes. Knows the text only: it resolves and opens nothing.

use std::fmt;
use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// The port of AMQP over plain TCP (IANA: amqp).
const AMQP_PORT: u16 = 5672;

/// The port of AMQP over TLS (IANA: amqps).
const AMQPS_PORT: u16 = 5671;

/// The characters that are percent-encoded in a virtual host: all but the unreserved ones (RFC 3986, section 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// One node's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    /// A name, an IPv4 address, or an IPv6 address without its brackets.
    pub(crate) name: String,
    /// The port.
    pub(crate) port: u16,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, port } = self;
        if name.contains(':') { write!(f, "[{name}]:{port}") } else { write!(f, "{name}:{port}") }
    }
}

/// `amqp://user:password@host1:5672,host2:5672/vhost`, or `amqps://` for TLS.
///
/// User, password and virtual host are percent-decoded. Left out, they are RabbitMQ's own defaults: `guest`, `guest`
/// and `/`; the port is 5672, or 5671 with TLS. The hosts are nodes of one cluster, tried in turn.
#[derive(Clone, PartialEq, Eq)]
pub struct AmqpUrl {
    pub(crate) tls: bool,
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) hosts: Vec<Host>,
    pub(crate) vhost: String,
}

/// What is wrong with the text of an AMQP URL. Repeats no part that may hold a password.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AmqpUrlError {
    /// Another scheme, or none.
    #[error("expected a URL that starts with amqp:// or amqps://")]
    Scheme,
    /// No host, or an empty one between commas.
    #[error("a host is missing")]
    NoHost,
    /// What follows a host's colon.
    #[error("the port of host {host} is not a number from 1 to 65535")]
    Port {
        /// The host.
        host: String,
    },
    /// An IPv6 address without one of its brackets, or with something after it.
    #[error("an IPv6 address is written in brackets: [::1]:5672")]
    Brackets,
    /// Percent-encoding of the named part.
    #[error("the {part} is not percent-encoded UTF-8")]
    Encoding {
        /// User, password or virtual host.
        part: &'static str,
    },
    /// A slash in the virtual host.
    #[error("a virtual host with a slash is percent-encoded: %2F")]
    VhostSlash,
    /// An `@` after the first slash, which may belong to the password.
    #[error("a slash in user or password is percent-encoded: %2F; so is an @ in the virtual host: %40")]
    Slash,
    /// Something after `?` or `#`.
    #[error("parameters are settings of their own: nothing follows the virtual host")]
    Parameters,
}

impl FromStr for AmqpUrl {
    type Err = AmqpUrlError;

    fn from_str(text: &str) -> Result<Self, AmqpUrlError> {
        let (tls, rest) = if let Some(rest) = text.strip_prefix("amqp://") {
            (false, rest)
        } else if let Some(rest) = text.strip_prefix("amqps://") {
            (true, rest)
        } else {
            return Err(AmqpUrlError::Scheme);
        };
        if rest.contains(['?', '#']) {
            return Err(AmqpUrlError::Parameters);
        }
        let (authority, vhost) = match rest.split_once('/') {
            None | Some((_, "")) => (rest.trim_end_matches('/'), "/".to_owned()),
            Some((_, rest)) if rest.contains('@') => return Err(AmqpUrlError::Slash),
            Some((_, vhost)) if vhost.contains('/') => return Err(AmqpUrlError::VhostSlash),
            Some((authority, vhost)) => (authority, decode(vhost, "virtual host")?),
        };
        let (credentials, hosts) = match authority.rsplit_once('@') {
            Some((credentials, hosts)) => (Some(credentials), hosts),
            None => (None, authority),
        };
        let (user, password) = match credentials {
            None => ("guest".to_owned(), "guest".to_owned()),
            Some(credentials) => {
                let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
                (decode(user, "user")?, decode(password, "password")?)
            }
        };
        let port = if tls { AMQPS_PORT } else { AMQP_PORT };
        let hosts = hosts.split(',').map(|host| parse_host(host, port)).collect::<Result<_, _>>()?;
        Ok(Self { tls, user, password, hosts, vhost })
    }
}

fn decode(text: &str, part: &'static str) -> Result<String, AmqpUrlError> {
    let well_formed = text.split('%').skip(1).all(|after| {
        let mut digits = after.bytes();
        (0..2).all(|_| digits.next().is_some_and(|digit| digit.is_ascii_hexdigit()))
    });
    match percent_decode_str(text).decode_utf8() {
        Ok(decoded) if well_formed => Ok(decoded.into_owned()),
        Ok(_) | Err(_) => Err(AmqpUrlError::Encoding { part }),
    }
}

fn parse_host(text: &str, default_port: u16) -> Result<Host, AmqpUrlError> {
    let (name, port) = if let Some(rest) = text.strip_prefix('[') {
        match rest.split_once(']').ok_or(AmqpUrlError::Brackets)? {
            (name, "") => (name, None),
            (name, port) => (name, Some(port.strip_prefix(':').ok_or(AmqpUrlError::Brackets)?)),
        }
    } else {
        match text.split_once(':') {
            Some((_, port)) if port.contains(':') => return Err(AmqpUrlError::Brackets),
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        }
    };
    if name.is_empty() {
        return Err(AmqpUrlError::NoHost);
    }
    if name.contains(['[', ']']) {
        return Err(AmqpUrlError::Brackets);
    }
    let port = match port.map(str::parse) {
        None => default_port,
        Some(Ok(port)) if port > 0 => port,
        Some(_) => return Err(AmqpUrlError::Port { host: name.to_owned() }),
    };
    Ok(Host { name: name.to_owned(), port })
}

impl AmqpUrl {
    /// User and password.
    pub fn credentials(&self) -> (&str, &str) {
        (&self.user, &self.password)
    }

    /// The virtual host.
    pub fn vhost(&self) -> &str {
        &self.vhost
    }

    /// Whether it crosses the network without TLS: then the password and every event can be read on the network.
    pub fn is_exposed(&self) -> bool {
        let is_local = |host: &Host| match host.name.parse::<std::net::IpAddr>() {
            Ok(ip) => ip.to_canonical().is_loopback(),
            Err(_) => host.name.eq_ignore_ascii_case("localhost"),
        };
        !self.tls && !self.hosts.iter().all(is_local)
    }

    /// The address without user and password, for one of the hosts or for all.
    pub(crate) fn address(&self, hosts: &[Host]) -> String {
        let scheme = if self.tls { "amqps" } else { "amqp" };
        let hosts: Vec<_> = hosts.iter().map(Host::to_string).collect();
        let vhost = utf8_percent_encode(&self.vhost, RESERVED);
        format!("{scheme}://{}/{vhost}", hosts.join(","))
    }
}

impl fmt::Display for AmqpUrl {
    /// The address without user and password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address(&self.hosts))
    }
}

impl fmt::Debug for AmqpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AmqpUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<AmqpUrl, AmqpUrlError> {
        text.parse()
    }

    fn hosts(url: &AmqpUrl) -> Vec<String> {
        url.hosts.iter().map(Host::to_string).collect()
    }

    #[test]
    fn every_part_is_read_and_decoded() {
        let url = parse("amqps://mal%40ote:p%3Aw%2F%25@one:5000,two,[::1]:7/orders%2Feu").unwrap();
        assert!(url.tls);
        assert_eq!((url.user.as_str(), url.password.as_str()), ("mal@ote", "p:w/%"));
        assert_eq!(hosts(&url), ["one:5000", "two:5671", "[::1]:7"]);
        assert_eq!(url.vhost, "orders/eu");
    }

    #[test]
    fn what_is_left_out_is_rabbitmqs_default() {
        for text in ["amqp://rabbit", "amqp://rabbit/", "amqp://rabbit/%2F"] {
            let url = parse(text).unwrap();
            assert!(!url.tls);
            assert_eq!((url.user.as_str(), url.password.as_str()), ("guest", "guest"));
            assert_eq!((hosts(&url), url.vhost.as_str()), (vec!["rabbit:5672".to_owned()], "/"), "{text}");
        }
    }

    #[test]
    fn an_error_says_which_part_is_wrong() {
        let check = |text, expect| assert_eq!(parse(text), Err(expect), "{text}");
        check("http://rabbit", AmqpUrlError::Scheme);
        check("rabbit:5672", AmqpUrlError::Scheme);
        check("amqp://", AmqpUrlError::NoHost);
        check("amqp://u:p@/v", AmqpUrlError::NoHost);
        check("amqp://one,,two", AmqpUrlError::NoHost);
        check("amqp://one:http/v", AmqpUrlError::Port { host: "one".into() });
        check("amqp://one:0", AmqpUrlError::Port { host: "one".into() });
        check("amqp://one:70000", AmqpUrlError::Port { host: "one".into() });
        check("amqp://::1:5672", AmqpUrlError::Brackets);
        check("amqp://[::1/v", AmqpUrlError::Brackets);
        check("amqp://[[::1]", AmqpUrlError::Brackets);
        check("amqp://one]/v", AmqpUrlError::Brackets);
        check("amqp://one/a/b", AmqpUrlError::VhostSlash);
        check("amqp://u:5672/secret@one", AmqpUrlError::Slash);
        check("amqp://u:p@one/a@b", AmqpUrlError::Slash);
        check("amqp://one/v?heartbeat=10", AmqpUrlError::Parameters);
        check("amqp://u:a%@one", AmqpUrlError::Encoding { part: "password" });
        check("amqp://u%ff:a@one", AmqpUrlError::Encoding { part: "user" });
    }

    #[test]
    fn an_address_reads_as_the_same_virtual_host() {
        for vhost in ["orders/eu", "50%", "a@b", "a?b#c", "é", "a-b.c_d~e"] {
            let url = parse(&format!("amqp://one/{}", utf8_percent_encode(vhost, NON_ALPHANUMERIC))).unwrap();
            assert_eq!(url.vhost, vhost);
            assert_eq!(parse(&url.to_string()), Ok(url), "{vhost}");
        }
    }

    #[test]
    fn the_password_never_shows() {
        let url = parse("amqp://malote:s3cret@one:5672,two:5672/orders").unwrap();
        assert_eq!(url.to_string(), "amqp://one:5672,two:5672/orders");
        assert_eq!(format!("{url:?}"), "AmqpUrl(amqp://one:5672,two:5672/orders)");
        for text in ["amqp://u:s3cret@one:x", "amqp://u:s3cret%@one", "amqp://u:s3cret@/v", "u:s3cret@one"] {
            let error = parse(text).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{text}");
        }
    }
}
