//! TLS for a listening port: a rustls configuration from two PEM files, or an error that names the file. They can be
//! reloaded while the port serves.
//!
//! The cryptography is that of ring; TLS 1.2 and 1.3, ALPN `h2` and `http/1.1`. Clients are asked for a certificate once a service
//! requires one ([`Certificate::ask_clients`]).

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::{fs, io};

use rustls::ServerConfig;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use serde::Deserialize;

use crate::client_certificate::Asking;
use crate::cryptography::provider;

/// Where the certificate and its key are.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// PEM file with the certificate of this server, followed by its intermediates.
    pub certificate: PathBuf,
    /// PEM file with the private key (PKCS#8, PKCS#1 or SEC1).
    pub key: PathBuf,
}

/// Why a port cannot be served with TLS. No variant carries the contents of a file.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file is missing or may not be read.
    #[error("cannot read {}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is there and is not PEM of the wanted kind.
    #[error("{} has no usable PEM {wanted}: {trouble}", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// `certificate` or `private key`.
        wanted: &'static str,
        /// What is wrong with it.
        trouble: &'static str,
    },
    /// Both files are PEM, and do not make a usable pair.
    #[error("the certificate {} and the key {} cannot be used together", certificate.display(), key.display())]
    Pair {
        /// The certificate file.
        certificate: PathBuf,
        /// The key file.
        key: PathBuf,
        /// What rustls says.
        source: rustls::Error,
    },
}

impl Tls {
    /// Reads both files and checks that they belong together.
    pub fn load(&self) -> Result<(Arc<ServerConfig>, Certificate), TlsError> {
        let certificate = Certificate {
            files: self.clone(),
            in_force: Arc::new(InForce(RwLock::new(Arc::new(self.pair()?)))),
            asking: Asking::new(),
        };
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("ring supports the default protocol versions")
            .with_client_cert_verifier(certificate.asking.clone())
            .with_cert_resolver(certificate.in_force.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok((Arc::new(config), certificate))
    }

    fn pair(&self) -> Result<CertifiedKey, TlsError> {
        let certificates = CertificateDer::pem_slice_iter(&read(&self.certificate)?)
            .collect::<Result<Vec<_>, _>>()
            .and_then(|all| if all.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(all) })
            .map_err(|error| malformed(&self.certificate, "certificate", &error))?;
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key)?)
            .map_err(|error| malformed(&self.key, "private key", &error))?;
        CertifiedKey::from_der(certificates, key, &provider()).map_err(|source| TlsError::Pair {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            source,
        })
    }
}

/// The certificate of a serving port. Clones share it.
#[derive(Clone, Debug)]
pub struct Certificate {
    files: Tls,
    in_force: Arc<InForce>,
    asking: Arc<Asking>,
}

impl Certificate {
    /// Its files.
    pub fn files(&self) -> [&Path; 2] {
        [&self.files.certificate, &self.files.key]
    }

    /// Whether clients are asked for a certificate, in handshakes from now on. One that has none is served all the same: see
    /// [`Peer::certificate`](crate::Peer::certificate).
    pub fn ask_clients(&self, is_asked: bool) {
        self.asking.set(is_asked);
    }

    /// Reloads the files for handshakes from now on; open connections continue. After an error the previous certificate
    /// stays in use.
    pub fn reload(&self) -> Result<(), TlsError> {
        let pair = Arc::new(self.files.pair()?);
        *self.in_force.0.write().unwrap_or_else(PoisonError::into_inner) = pair;
        Ok(())
    }
}

#[derive(Debug)]
struct InForce(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for InForce {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(file).map_err(|source| TlsError::Unreadable { file: file.to_owned(), source })
}

/// The text of a PEM error may quote the file, and the file may be a key: only the kind of the error is shown.
fn malformed(file: &Path, wanted: &'static str, error: &pem::Error) -> TlsError {
    let trouble = match error {
        pem::Error::NoItemsFound => "there is none in the file",
        pem::Error::MissingSectionEnd { .. } => "a section has no END line",
        pem::Error::IllegalSectionStart { .. } => "a BEGIN line is malformed",
        pem::Error::Base64Decode(_) => "a section is not base64",
        pem::Error::SectionTooLarge => "a section is too large",
        _ => "it cannot be parsed",
    };
    TlsError::Malformed { file: file.to_owned(), wanted, trouble }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_names_the_file_and_what_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let file = dir.path().join(name);
            fs::write(&file, text).unwrap();
            file
        };
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = write("server.crt", &pair.cert.pem());
        let key = write("server.key", &pair.signing_key.serialize_pem());
        let stray = write("other.key", &other.signing_key.serialize_pem());
        let torn = write("torn.key", "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n");
        let load = |certificate: &Path, key: &Path| {
            Tls { certificate: certificate.to_owned(), key: key.to_owned() }.load()
        };
        let trouble = |certificate: &Path, key: &Path| load(certificate, key).unwrap_err().to_string();

        load(&certificate, &key).unwrap();
        assert!(trouble(&dir.path().join("none.crt"), &key).ends_with("none.crt"));
        assert!(
            trouble(&key, &key)
                .ends_with("server.key has no usable PEM certificate: there is none in the file")
        );
        assert!(trouble(&certificate, &certificate).contains("server.crt has no usable PEM private key"));
        assert!(
            trouble(&certificate, &torn)
                .ends_with("torn.key has no usable PEM private key: a section has no END line")
        );
        assert!(trouble(&certificate, &stray).ends_with("other.key cannot be used together"));
    }
}
