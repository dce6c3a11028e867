//! A client certificate: whose it has to be, and who checks it: the port itself, or a proxy that terminates TLS.
//!
//! No certificate is parsed here. The port vouches for its subject and names ([`Connection::Certificate`]); a proxy writes them
//! into headers, which are believed on its own connections only ([`Connection::Proxy`]).

use http::HeaderMap;
use serde::{Deserialize, Serialize};

use super::Expected;
use crate::HeaderName;

/// The client certificate that a source requires.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ClientCertificate {
    /// The authorities, one of which has issued the certificate: PEM. The port checks it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorities: Option<String>,
    /// The headers in which a proxy that has checked the certificate passes it on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<ProxyHeaders>,
    /// The subjects, one of which has to fit; every subject if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subjects: Vec<Subject>,
    /// The alternative names (DNS or URI), one of which the certificate has to have; every certificate if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
}

/// What a proxy says of the certificate of its client. It has to remove these headers from what clients send.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ProxyHeaders {
    /// The header.
    pub header: HeaderName,
    /// What the header holds.
    #[serde(default)]
    pub format: ProxyFormat,
    /// The header that says that the proxy has verified the certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<Verified>,
}

/// What the header of a proxy holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProxyFormat {
    /// The subject (RFC 4514).
    #[default]
    Subject,
    /// Envoy's `x-forwarded-client-cert`. The last element counts, which the nearest proxy has added.
    Xfcc,
}

/// The header that says that a certificate was verified.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Verified {
    /// The header.
    pub header: HeaderName,
    /// Its value if so.
    #[serde(default = "success")]
    pub value: String,
}

/// As nginx and Apache say it.
fn success() -> String {
    "SUCCESS".to_owned()
}

/// What is known of the connection that a request came on.
#[derive(Clone, Copy, Debug, Default)]
pub enum Connection<'a> {
    /// Nothing that proves who sends.
    #[default]
    Unproved,
    /// An authority of the source vouches for the client's certificate, which has this subject and these names.
    Certificate {
        /// The attributes of the subject, each with its type in upper case.
        subject: &'a [(String, String)],
        /// The alternative names.
        names: &'a [String],
    },
    /// It is that of a trusted proxy.
    Proxy,
}

/// Attributes that a subject has to have, whatever else it has: a distinguished name as in RFC 4514, such as `CN=webhooks,C=BR`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subject {
    text: String,
    attributes: Vec<(String, String)>,
}

/// The text is no distinguished name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("expected a distinguished name such as CN=webhooks.example.com,O=Example (RFC 4514), got {0:?}")]
pub struct NotASubject(String);

impl TryFrom<String> for Subject {
    type Error = NotASubject;

    fn try_from(text: String) -> Result<Self, NotASubject> {
        match attributes(&text) {
            Some(attributes) => Ok(Self { text, attributes }),
            None => Err(NotASubject(text)),
        }
    }
}

impl From<Subject> for String {
    fn from(subject: Subject) -> Self {
        subject.text
    }
}

impl ClientCertificate {
    pub(super) fn check(&self, headers: &HeaderMap, connection: Connection<'_>) -> bool {
        match (connection, &self.proxy) {
            (Connection::Certificate { subject, names }, _) => {
                self.authorities.is_some() && self.is_of(subject, names)
            }
            (Connection::Proxy, Some(proxy)) => {
                proxy.read(headers).is_some_and(|(subject, names)| self.is_of(&subject, &names))
            }
            _ => false,
        }
    }

    fn is_of(&self, subject: &[(String, String)], names: &[String]) -> bool {
        let fits = |wanted: &Subject| wanted.attributes.iter().all(|attribute| subject.contains(attribute));
        let has = |wanted: &String| names.iter().any(|name| name.eq_ignore_ascii_case(wanted));
        (self.subjects.is_empty() || self.subjects.iter().any(fits))
            && (self.names.is_empty() || self.names.iter().any(has))
    }

    /// What a request has to show, for its sender.
    pub(super) fn expected(&self) -> Expected<'_> {
        match self.authorities {
            Some(_) => Expected::Certificate,
            None => Expected::CertificateForProxy,
        }
    }

    /// Every mistake that no single value shows, as (path, message).
    pub(super) fn mistakes(&self) -> Vec<(&'static str, &'static str)> {
        let mut mistakes = Vec::new();
        if self.authorities.is_none() && self.proxy.is_none() {
            mistakes.push((
                "",
                "missing: authorities_file, with the authorities that have issued the certificate, or proxy, with the headers of \
                 a proxy that checks it",
            ));
        }
        if let Some(ProxyHeaders { header, format: ProxyFormat::Subject, verified }) = &self.proxy {
            match verified {
                None => mistakes.push((
                    "proxy.verified",
                    "missing: a subject alone is no proof; give the header that says that the proxy has verified the \
                     certificate, such as { header = \"x-ssl-client-verify\" }",
                )),
                Some(verified) if verified.header == *header => mistakes
                    .push(("proxy.verified.header", "is the header of the subject; give the one of the check")),
                Some(_) => {}
            }
            if !self.names.is_empty() {
                mistakes
                    .push(("names", "the header of the proxy has the subject only: give subjects instead"));
            }
        }
        if self.names.iter().any(String::is_empty) {
            mistakes.push(("names", "must not be empty texts"));
        }
        mistakes
    }
}

type Shown = (Vec<(String, String)>, Vec<String>);

impl ProxyHeaders {
    /// The subject and names that the proxy has verified.
    fn read(&self, headers: &HeaderMap) -> Option<Shown> {
        if let Some(Verified { header, value }) = &self.verified
            && header.only(headers)? != value
        {
            return None;
        }
        let text = self.header.only(headers)?;
        match self.format {
            ProxyFormat::Subject => Some((attributes(text)?, Vec::new())),
            ProxyFormat::Xfcc => xfcc(text),
        }
    }

    /// Its headers, each after its path.
    pub(super) fn headers(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let verified = self.verified.iter();
        let verified = verified.map(|it| ("client_certificate.proxy.verified", it.header.as_str()));
        [("client_certificate.proxy.header", self.header.as_str())].into_iter().chain(verified)
    }
}

/// The attributes of a distinguished name (RFC 4514, section 3), each with its type in upper case. `None` if it has none, or
/// another form: in the older one, `/CN=a/O=b`, a value may look like another attribute.
fn attributes(text: &str) -> Option<Vec<(String, String)>> {
    let mut attributes = Vec::new();
    for part in split(text, b",+", None) {
        let (kind, value) = part.split_once('=')?;
        let kind = kind.trim();
        let is_type = !kind.is_empty()
            && kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-');
        if !is_type {
            return None;
        }
        attributes.push((kind.to_ascii_uppercase(), unescaped(value)?));
    }
    Some(attributes)
}

/// The parts between unescaped separators, outside of quotes.
fn split<'a>(text: &'a str, separators: &[u8], quote: Option<u8>) -> Vec<&'a str> {
    let (mut parts, mut begin, mut is_escaped, mut is_quoted) = (Vec::new(), 0, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            _ if quote == Some(byte) => is_quoted = !is_quoted,
            _ if !is_quoted && separators.contains(&byte) => {
                parts.push(&text[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[begin..]);
    parts
}

/// A value without its escapes, and without the white space around it.
fn unescaped(text: &str) -> Option<String> {
    let mut value = Vec::new();
    let mut kept = 0;
    let mut bytes = text.trim_start().bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            value.push(byte);
            if byte != b' ' {
                kept = value.len();
            }
            continue;
        }
        let first = bytes.next()?;
        let hex = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        value.push(match hex(first) {
            Some(high) => high << 4 | hex(bytes.next()?)?,
            None => first,
        });
        kept = value.len();
    }
    value.truncate(kept);
    String::from_utf8(value).ok()
}

/// The last element of Envoy's header.
fn xfcc(text: &str) -> Option<Shown> {
    const QUOTE: Option<u8> = Some(b'"');
    let (mut subject, mut names) = (Vec::new(), Vec::new());
    let last = split(text, b",", QUOTE).pop()?;
    for pair in split(last, b";", QUOTE) {
        let (key, value) = pair.split_once('=')?;
        let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
        let value = quoted.map_or_else(|| value.to_owned(), |value| value.replace("\\\"", "\""));
        match key.trim().to_ascii_lowercase().as_str() {
            "subject" if !value.is_empty() => subject = attributes(&value)?,
            "dns" | "uri" => names.push(value),
            _ => {}
        }
    }
    Some((subject, names))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> ClientCertificate {
        toml::from_str(text).unwrap()
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (http::HeaderName::from_static(name), value.parse().unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn a_certificate_of_the_port_has_to_have_a_subject_and_a_name_that_the_source_takes() {
        let subject = [("CN", "webhooks"), ("O", "Example, Ltd")]
            .map(|(kind, value)| (kind.to_owned(), value.to_owned()));
        let names = ["hooks.example.com".to_owned()];
        let shown = Connection::Certificate { subject: &subject, names: &names };
        let check = |text: &str, expect: bool| {
            let none = HeaderMap::new();
            assert_eq!(rule(text).check(&none, shown), expect, "{text}");
            for other in [Connection::Unproved, Connection::Proxy] {
                assert!(!rule(text).check(&none, other), "{text}");
            }
        };
        check("authorities = \"pem\"", true);
        check("authorities = \"pem\"\nsubjects = [\"cn=webhooks\"]", true);
        check("authorities = \"pem\"\nsubjects = ['O=Example\\, Ltd,CN = webhooks ']", true);
        check("authorities = \"pem\"\nsubjects = [\"CN=other\", \"CN=webhooks\"]", true);
        check("authorities = \"pem\"\nsubjects = [\"CN=webhooks,C=BR\"]", false);
        check("authorities = \"pem\"\nsubjects = [\"CN=Webhooks\"]", false);
        check("authorities = \"pem\"\nnames = [\"Hooks.example.com\"]", true);
        check("authorities = \"pem\"\nnames = [\"example.com\"]", false);
        // Only the port vouches for it, and the source has not asked the port.
        check("proxy = { header = \"x-dn\", verified = { header = \"x-verify\" } }", false);
    }

    #[test]
    fn a_proxy_has_to_have_verified_the_subject_and_says_so_once() {
        let rule = rule(
            "proxy = { header = \"x-dn\", verified = { header = \"x-verify\" } }\nsubjects = [\"CN=webhooks,C=BR\"]",
        );
        let check = |pairs: &[(&'static str, &str)], expect: bool| {
            assert_eq!(rule.check(&headers(pairs), Connection::Proxy), expect, "{pairs:?}");
            assert!(!rule.check(&headers(pairs), Connection::Unproved), "a client may write any header");
        };
        let verified = ("x-verify", "SUCCESS");
        check(&[verified, ("x-dn", "CN=webhooks,O=Ex,C=BR")], true);
        check(&[verified, ("x-dn", "C=BR+CN=web\\68ooks")], true);
        check(&[("x-verify", "FAILED:expired"), ("x-dn", "CN=webhooks,C=BR")], false);
        check(&[("x-dn", "CN=webhooks,C=BR")], false);
        check(&[verified], false);
        check(&[verified, ("x-dn", "")], false);
        // One value, not two attributes.
        check(&[verified, ("x-dn", "CN=webhooks\\,C=BR")], false);
        check(&[verified, ("x-dn", "/CN=webhooks/C=BR")], false);
        let mut twice = headers(&[verified, ("x-dn", "CN=webhooks,C=BR")]);
        twice.append("x-dn", "CN=webhooks,C=BR".parse().unwrap());
        assert!(!rule.check(&twice, Connection::Proxy), "one of them may be the client's own");
    }

    #[test]
    fn of_envoys_header_the_nearest_proxy_counts() {
        let rule = rule(
            "proxy = { header = \"x-forwarded-client-cert\", format = \"xfcc\" }\nsubjects = [\"CN=a;b,O=c\"]\nnames = [\"hooks.example.com\"]",
        );
        let check = |text: &str, expect: bool| {
            let headers = headers(&[("x-forwarded-client-cert", text)]);
            assert_eq!(rule.check(&headers, Connection::Proxy), expect, "{text}");
        };
        let whole = "Hash=ab;Subject=\"CN=a;b,O=c\";URI=;DNS=www.example.com;DNS=hooks.example.com";
        check(whole, true);
        check(&format!("Hash=cd;Subject=\"CN=x\",{whole}"), true);
        check(&format!("{whole},Hash=cd;Subject=\"CN=x\""), false);
        check("Hash=ab;Subject=\"CN=a;b,O=c\"", false);
        check("DNS=hooks.example.com", false);
        check("", false);
    }

    #[test]
    fn what_cannot_prove_anything_is_a_mistake() {
        let check = |text: &str, expect: &[&str]| {
            let mistakes = rule(text).mistakes();
            let paths: Vec<_> = mistakes.iter().map(|(path, _)| *path).collect();
            assert_eq!(paths, expect, "{text}: {mistakes:?}");
        };
        check("authorities = \"pem\"", &[]);
        check("proxy = { header = \"x-forwarded-client-cert\", format = \"xfcc\" }", &[]);
        check("subjects = [\"CN=a\"]", &[""]);
        check("proxy = { header = \"x-dn\" }", &["proxy.verified"]);
        check("proxy = { header = \"x-dn\", verified = { header = \"X-DN\" } }", &["proxy.verified.header"]);
        check("proxy = { header = \"x-dn\", verified = { header = \"x-v\" } }\nnames = [\"a\"]", &["names"]);
        for text in ["", "webhooks", "CN", "=a", "CN=a,", "/CN=a", "CN=\\f"] {
            assert!(Subject::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
