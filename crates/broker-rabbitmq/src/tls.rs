//! TLS settings of a connection. The files are read for each connection, so a reconnection uses renewed certificates.

use std::fs;
use std::io;
use std::path::PathBuf;

use event::ClientTls;
use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};

/// What the files contain.
pub(crate) fn read(tls: &ClientTls) -> io::Result<OwnedTLSConfig> {
    let read = |file: &PathBuf| {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", file.display()));
        fs::read(file).map_err(named)
    };
    let cert_chain = match &tls.ca {
        None => None,
        Some(file) => Some(String::from_utf8(read(file)?).map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{} is not PEM", file.display()))
        })?),
    };
    let identity = match (&tls.certificate, &tls.key) {
        (Some(certificate), Some(key)) => {
            Some(OwnedIdentity::PKCS8 { pem: read(certificate)?, key: read(key)? })
        }
        _ => None,
    };
    Ok(OwnedTLSConfig { identity, cert_chain })
}
