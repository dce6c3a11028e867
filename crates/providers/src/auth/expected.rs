//! What a request to a source has to have, for its sender and for the pages about senders.

use std::fmt;

use super::Auth;

/// One thing that a request has to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected<'a> {
    /// A header.
    Header(&'a str),
    /// A parameter in the address.
    Parameter(&'a str),
    /// User name and password (RFC 7617).
    Basic,
    /// A token (RFC 6750).
    Bearer,
    /// A token that malote has issued.
    IssuedToken,
    /// A client certificate, which the port of the ingress checks.
    Certificate,
    /// A client certificate, which a proxy checks.
    CertificateForProxy,
}

impl fmt::Display for Expected<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "the header {name}"),
            Self::Parameter(name) => write!(f, "the parameter {name} in the address"),
            Self::Basic => f.write_str("the header authorization with Basic credentials"),
            Self::Bearer => f.write_str("the header authorization with a bearer token"),
            Self::IssuedToken => {
                f.write_str("the header authorization with a bearer token from POST /oauth/token")
            }
            Self::Certificate => f.write_str("a client certificate in the TLS handshake"),
            Self::CertificateForProxy => {
                f.write_str("a client certificate that the proxy of the receiver accepts")
            }
        }
    }
}

impl Auth {
    /// What a request to this source has to have.
    pub fn expectations(&self) -> Vec<Expected<'_>> {
        match self {
            Self::None => Vec::new(),
            Self::All(required) => required.expectations(),
        }
    }

    /// The same, in a sentence for its sender.
    pub fn expected(&self) -> String {
        match self.expectations().as_slice() {
            [] if matches!(self, Self::None) => "nothing".to_owned(),
            all => all.iter().map(Expected::to_string).collect::<Vec<_>>().join(", "),
        }
    }
}
