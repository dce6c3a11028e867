//! TLS settings of a connection. The files are read for each connection, so a reconnection uses renewed certificates.

use std::fs;
use std::io;
use std::path::PathBuf;

use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};
use serde::Deserialize;

/// PEM files of the client. The certificate of RabbitMQ is always verified, together with its host name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientTls {
    /// Certificate authorities to trust besides those of the system.
    pub ca: Option<PathBuf>,
    /// The certificate of this client, with its intermediates.
    pub certificate: Option<PathBuf>,
    /// Its key (PKCS#8).
    pub key: Option<PathBuf>,
}

impl ClientTls {
    pub(crate) fn read(&self) -> io::Result<OwnedTLSConfig> {
        let read = |file: &PathBuf| {
            let named =
                |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", file.display()));
            fs::read(file).map_err(named)
        };
        let cert_chain = match &self.ca {
            None => None,
            Some(file) => Some(String::from_utf8(read(file)?).map_err(|_| {
                io::Error::new(io::ErrorKind::InvalidData, format!("{} is not PEM", file.display()))
            })?),
        };
        let identity = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => {
                Some(OwnedIdentity::PKCS8 { pem: read(certificate)?, key: read(key)? })
            }
            _ => None,
        };
        Ok(OwnedTLSConfig { identity, cert_chain })
    }
}
