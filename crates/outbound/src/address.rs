//! The address of a target: an HTTP URL that is parsed once, when it is saved.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use http::header::HeaderValue;
use http::uri::Uri;
use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};
use url::Url;

/// The longest address, in bytes.
const LONGEST: usize = 4_096;

/// The URL of a target. Clones share it.
///
/// `Display` gives the whole URL; `Debug` leaves out path and query, which may contain a token.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address(Arc<Parts>);

struct Parts {
    url: Url,
    host: Host,
    port: u16,
    server: ServerName<'static>,
    /// The whole URL, as HTTP/2 and proxies need it.
    absolute: Uri,
    /// Path and query, as HTTP/1.1 needs it.
    relative: Uri,
    authority: HeaderValue,
    origin: String,
}

/// The host of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// An address, in whichever notation it was written.
    Ip(IpAddr),
    /// A name, in lower case and ASCII.
    Name(String),
}

/// Why a text is no address of a target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAddress {
    /// It is no URL.
    #[error("is not a URL such as https://example.com/events: {0}")]
    Form(url::ParseError),
    /// It contains white space or control characters.
    #[error("contains white space or a control character")]
    Space,
    /// It is too long.
    #[error("is longer than {LONGEST} bytes")]
    Long,
    /// It is of another scheme.
    #[error("expected http:// or https://, got {0}://")]
    Scheme(String),
    /// It contains a user name or password.
    #[error("contains a user name or password: use credentials instead")]
    Credentials,
    /// It contains a fragment.
    #[error("contains a fragment (#…), which is never sent")]
    Fragment,
    /// Its host can be no name.
    #[error("has no valid host")]
    Host,
    /// Its port is 0.
    #[error("has the port 0")]
    Port,
}

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        if text.len() > LONGEST {
            return Err(BadAddress::Long);
        }
        // The parser would remove them.
        if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(BadAddress::Space);
        }
        let url = Url::parse(text).map_err(BadAddress::Form)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(BadAddress::Scheme(url.scheme().to_owned()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(BadAddress::Credentials);
        }
        if url.fragment().is_some() {
            return Err(BadAddress::Fragment);
        }
        let host = match url.host() {
            Some(url::Host::Ipv4(ip)) => Host::Ip(ip.into()),
            Some(url::Host::Ipv6(ip)) => Host::Ip(ip.into()),
            Some(url::Host::Domain(name)) => Host::Name(name.to_owned()),
            None => return Err(BadAddress::Host),
        };
        let server = match &host {
            Host::Ip(ip) => ServerName::from(*ip),
            Host::Name(name) => ServerName::try_from(name.clone()).map_err(|_| BadAddress::Host)?,
        };
        let port = url.port_or_known_default().filter(|port| *port != 0).ok_or(BadAddress::Port)?;
        let absolute: Uri = url.as_str().parse().map_err(|_| BadAddress::Host)?;
        let relative = absolute.path_and_query().cloned().map(Uri::from).unwrap_or_default();
        let authority = absolute.authority().map(|authority| authority.as_str());
        let authority = HeaderValue::from_str(authority.ok_or(BadAddress::Host)?);
        let authority = authority.map_err(|_| BadAddress::Host)?;
        let origin = url.origin().ascii_serialization();
        let parts = Parts { url, host, port, server, absolute, relative, authority, origin };
        Ok(Self(Arc::new(parts)))
    }
}

impl Address {
    /// The URL, normalised.
    pub fn as_str(&self) -> &str {
        self.0.url.as_str()
    }

    /// Scheme, host and port, without the scheme's own: `https://example.com`.
    pub fn origin(&self) -> &str {
        &self.0.origin
    }

    /// The host as a URL has it: an IPv6 address in brackets.
    pub fn host(&self) -> &str {
        self.0.url.host_str().expect("an address has a host")
    }

    /// Whether it is reached with TLS.
    pub fn is_https(&self) -> bool {
        self.0.url.scheme() == "https"
    }

    pub(crate) fn target(&self) -> &Host {
        &self.0.host
    }

    pub(crate) fn port(&self) -> u16 {
        self.0.port
    }

    pub(crate) fn server(&self) -> &ServerName<'static> {
        &self.0.server
    }

    pub(crate) fn absolute(&self) -> &Uri {
        &self.0.absolute
    }

    pub(crate) fn relative(&self) -> &Uri {
        &self.0.relative
    }

    pub(crate) fn authority(&self) -> &HeaderValue {
        &self.0.authority
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/…", self.origin())
    }
}

impl PartialEq for Address {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Address {}

impl TryFrom<String> for Address {
    type Error = BadAddress;

    fn try_from(text: String) -> Result<Self, BadAddress> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.as_str().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Address, BadAddress> {
        text.parse()
    }

    #[test]
    fn every_notation_of_an_ip_address_is_the_address() {
        let check = |text: &str, expect: &str| {
            let address = parse(text).unwrap();
            assert_eq!(address.target(), &Host::Ip(expect.parse().unwrap()), "{text}");
        };
        check("http://127.0.0.1", "127.0.0.1");
        check("http://2130706433/", "127.0.0.1");
        check("http://0177.0.0.1/", "127.0.0.1");
        check("http://0x7f.1/", "127.0.0.1");
        check("http://0x7f000001/", "127.0.0.1");
        check("http://017700000001/", "127.0.0.1");
        check("http://127.1/", "127.0.0.1");
        check("http://127.0.1/", "127.0.0.1");
        check("http://127.0.0.1./", "127.0.0.1");
        check("http://%31%32%37.0.0.1/", "127.0.0.1");
        check("http://１２７.０.０.１/", "127.0.0.1");
        check("http://①②⑦。⓪.0.1/", "127.0.0.1");
        check("http://0/", "0.0.0.0");
        check("http://[::1]:80/", "::1");
        check("http://[0:0:0:0:0:ffff:7f00:1]/", "::ffff:127.0.0.1");
        check("http://[::ffff:127.0.0.1]/", "::ffff:127.0.0.1");
    }

    #[test]
    fn a_name_is_normalised_and_so_are_the_texts_that_are_sent() {
        let address = parse("HTTPS://Exämple.COM:443/a b".replace(' ', "%20").as_str()).unwrap();
        assert_eq!(address.target(), &Host::Name("xn--exmple-cua.com".to_owned()));
        assert_eq!((address.port(), address.is_https()), (443, true));
        assert_eq!(address.origin(), "https://xn--exmple-cua.com");
        assert_eq!(address.authority(), "xn--exmple-cua.com");
        assert_eq!(address.relative(), "/a%20b");
        let address = parse("http://[2001:DB8::1]:8080?token=secret").unwrap();
        assert_eq!(address.authority(), "[2001:db8::1]:8080");
        assert_eq!(
            (address.host(), address.relative().to_string()),
            ("[2001:db8::1]", "/?token=secret".into())
        );
        assert_eq!(address.to_string(), "http://[2001:db8::1]:8080/?token=secret");
        assert!(!format!("{address:?}").contains("secret"));
        assert_eq!(parse("http://localhost.").unwrap().target(), &Host::Name("localhost.".to_owned()));
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_reason() {
        let check = |text: &str, expect: &str| {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(expect) && !error.contains("hunter2"), "{text}: {error}");
        };
        check("", "is not a URL");
        check("example.com/events", "is not a URL");
        check("ftp://example.com", "got ftp://");
        check("file:///etc/passwd", "got file://");
        check("http://user:hunter2@example.com", "user name or password");
        check("http://hunter2@example.com", "user name or password");
        check("http://example.com@127.0.0.1/", "user name or password");
        check("http://example.com/#hunter2", "fragment");
        check("http://example.com:0/", "port 0");
        check("http://example.com:65536/", "invalid port");
        check("http://exam\nple.com/", "white space or a control character");
        check(" http://example.com/", "white space or a control character");
        check("http://a..b/", "no valid host");
        check("http:///", "is not a URL");
        check("http://1.2.3.4.5/", "is not a URL");
        check("http://256.0.0.1/", "is not a URL");
        check("http://[fe80::1%25eth0]/", "is not a URL");
        check(&format!("http://example.com/{}", "a".repeat(LONGEST)), "longer than");
    }

    #[test]
    fn a_saved_address_reads_as_the_same() {
        let address = parse("http://0x7f.1:8080/a?b=c|d").unwrap();
        let saved = serde_json::to_string(&address).unwrap();
        assert_eq!(saved, r#""http://127.0.0.1:8080/a?b=c|d""#);
        assert_eq!(serde_json::from_str::<Address>(&saved).unwrap(), address);
        assert!(serde_json::from_str::<Address>(r#""http://u@h""#).is_err());
    }
}
