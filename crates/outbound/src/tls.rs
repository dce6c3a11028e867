//! TLS of a client: whom it trusts, and what it shows of itself.

use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// TLS of targets that need their own. Verification cannot be turned off.
#[derive(Clone)]
pub struct Tls(Arc<ClientConfig>);

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

/// Why certificates or keys cannot be used. No message quotes them.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// No certificate of an authority can be read.
    #[error("the certificate authorities are not PEM with at least one certificate")]
    Authorities,
    /// No certificate can be read.
    #[error("the client certificate is not PEM with at least one certificate")]
    Certificate,
    /// No key can be read.
    #[error("the key of the client certificate is not a private key in PEM")]
    Key,
    /// Certificate and key do not belong together, or cannot be used.
    #[error("the client certificate and its key cannot be used")]
    Pair(#[source] rustls::Error),
    /// The system trusts nobody.
    #[error("the system has no certificate authorities: install them (such as the package ca-certificates)")]
    NoSystem,
}

impl Tls {
    /// Trusts the authorities in `ca` (PEM) **in place of** those of the system: a target that has an authority of its own
    /// needs no certificate of another one. Without `ca`, those of the system are trusted. `identity` is the client's
    /// certificate, with its intermediates, and key (PEM), for targets that ask for one.
    pub fn new(ca: Option<&[u8]>, identity: Option<(&[u8], &[u8])>) -> Result<Self, TlsError> {
        let roots = match ca {
            None => system()?,
            Some(pem) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(pem).ok_or(TlsError::Authorities)? {
                    roots.add(certificate).map_err(|_| TlsError::Authorities)?;
                }
                Arc::new(roots)
            }
        };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("ring supports the default protocol versions")
            .with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates(certificate).ok_or(TlsError::Certificate)?;
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::Key)?;
                builder.with_client_auth_cert(chain, key).map_err(TlsError::Pair)?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self(Arc::new(config)))
    }

    pub(crate) fn config(&self) -> &Arc<ClientConfig> {
        &self.0
    }
}

/// The TLS of one client.
pub(crate) enum Trust {
    /// The system's authorities, read when they are needed first.
    System(OnceLock<Tls>),
    Own(Tls),
}

impl Trust {
    pub(crate) fn system() -> Self {
        Self::System(OnceLock::new())
    }

    pub(crate) fn config(&self) -> io::Result<&Arc<ClientConfig>> {
        let tls = match self {
            Self::Own(tls) => tls,
            Self::System(read) => match read.get() {
                Some(tls) => tls,
                // Two that come first at the same time both read, and one of the two is kept.
                None => {
                    let tls = Tls::new(None, None).map_err(io::Error::other)?;
                    read.get_or_init(|| tls)
                }
            },
        };
        Ok(tls.config())
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// At least one certificate.
fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().ok()?;
    (!certificates.is_empty()).then_some(certificates)
}

/// What the system trusts. Certificates that rustls cannot use are left out, as elsewhere.
fn system() -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(TlsError::NoSystem) } else { Ok(Arc::new(roots)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (String, String) {
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (pair.cert.pem(), pair.signing_key.serialize_pem())
    }

    #[test]
    fn certificates_and_keys_that_cannot_be_used_are_named_and_not_quoted() {
        let ((certificate, key), (_, other)) = (pair(), pair());
        let (certificate, key, other) = (certificate.as_bytes(), key.as_bytes(), other.as_bytes());
        let ca = Some(certificate);
        assert!(Tls::new(ca, Some((certificate, key))).is_ok());
        let check = |tls: Result<Tls, TlsError>, expect: &str| {
            let error = tls.unwrap_err().to_string();
            assert!(error.contains(expect), "{error}");
        };
        check(Tls::new(Some(b"hunter2"), None), "the certificate authorities");
        check(Tls::new(Some(key), None), "the certificate authorities");
        check(Tls::new(ca, Some((b"hunter2", key))), "the client certificate is not PEM");
        check(Tls::new(ca, Some((certificate, b"hunter2"))), "the key of the client certificate");
        check(Tls::new(ca, Some((certificate, other))), "cannot be used");
    }
}
