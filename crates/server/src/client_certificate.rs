//! Client certificates: a port that asks for them, and the authorities that vouch for them.
//!
//! The handshake proves only that a client has the key of the certificate that it presents. Whether an authority vouches for the
//! certificate is asked for each service that requires one ([`ClientAuthority`]): a port serves several, and one that requires
//! none takes a client whatever its certificate is.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConnection,
    SignatureScheme,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::x509::AttributeTypeAndValue;

use crate::cryptography::provider;

/// The longest chain of a client, in bytes, which its connection keeps twice. Four RSA certificates have some 6 KiB.
const CHAIN_BYTES: usize = 8 * 1024;

/// How long it is known that an authority vouches for the certificate of a connection, or does not.
const VOUCHED_FOR: Duration = Duration::from_secs(60);

/// A certificate that the client of a connection has presented, and whose key it has.
pub struct ClientCertificate {
    /// The client's own certificate first.
    chain: Vec<CertificateDer<'static>>,
    identity: OnceLock<Identity>,
    /// The authority that was asked last, when, and its answer.
    asked: Mutex<Option<(u64, Instant, bool)>>,
}

/// Whom a certificate is of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The attributes of its subject, each with its type: a short name in upper case (RFC 4514, section 3) or the numbers of its OID.
    pub subject: Vec<(String, String)>,
    /// Its alternative names: DNS names and URIs.
    pub names: Vec<String>,
}

impl ClientCertificate {
    /// What the client has presented in the handshake, if anything.
    pub(crate) fn presented(connection: &ServerConnection) -> Option<Arc<Self>> {
        let chain = connection.peer_certificates().filter(|chain| !chain.is_empty())?;
        Some(Arc::new(Self {
            chain: chain.iter().cloned().map(CertificateDer::into_owned).collect(),
            identity: OnceLock::new(),
            asked: Mutex::default(),
        }))
    }

    /// Whom it is of. Nobody vouches for that but a [`ClientAuthority`].
    pub fn identity(&self) -> &Identity {
        self.identity.get_or_init(|| self.chain.first().and_then(|own| identity(own)).unwrap_or_default())
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate").finish_non_exhaustive()
    }
}

/// Authorities that issue client certificates.
#[derive(Clone, Debug)]
pub struct ClientAuthority {
    /// Tells it from others in this process.
    id: u64,
    verifier: Arc<dyn ClientCertVerifier>,
}

/// Why a text has no authority. No variant quotes it.
#[derive(Debug, thiserror::Error)]
pub enum NoAuthority {
    /// It is not PEM.
    #[error(
        "expected the certificates of authorities in PEM, each between BEGIN CERTIFICATE and END CERTIFICATE"
    )]
    Form,
    /// One of its certificates cannot be used.
    #[error("a certificate in it cannot be used as an authority")]
    Certificate(#[source] Error),
    /// There is none that can be used.
    #[error("the certificates in it cannot be used as authorities")]
    Unusable(#[from] VerifierBuilderError),
}

impl ClientAuthority {
    /// The authorities of a text in PEM. Each of them is trusted by itself, also an intermediate one.
    pub fn new(pem: &str) -> Result<Self, NoAuthority> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate = certificate.map_err(|_: pem::Error| NoAuthority::Form)?;
            roots.add(certificate).map_err(NoAuthority::Certificate)?;
        }
        if roots.is_empty() {
            return Err(NoAuthority::Form);
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build()?;
        Ok(Self { id: NEXT.fetch_add(1, Ordering::Relaxed), verifier })
    }

    /// Whether one of them vouches for a certificate: it has issued the certificate, directly or through the intermediates that the
    /// client presented, for clients, and it is valid now. Known for a minute, so that the requests of a connection do not pay
    /// for it each.
    pub fn vouches_for(&self, certificate: &ClientCertificate) -> bool {
        let mut asked = certificate.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((id, at, answer)) = *asked
            && id == self.id
            && at.elapsed() < VOUCHED_FOR
        {
            return answer;
        }
        let answer = certificate.chain.split_first().is_some_and(|(own, intermediates)| {
            self.verifier.verify_client_cert(own, intermediates, UnixTime::now()).is_ok()
        });
        *asked = Some((self.id, Instant::now(), answer));
        answer
    }
}

/// Whether a port asks its clients for certificates. It never insists.
#[derive(Debug)]
pub(crate) struct Asking {
    is_on: AtomicBool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Asking {
    /// Not yet.
    pub(crate) fn new() -> Arc<Self> {
        let algorithms = provider().signature_verification_algorithms;
        Arc::new(Self { is_on: AtomicBool::new(false), algorithms })
    }

    /// For handshakes from now on.
    pub(crate) fn set(&self, is_on: bool) {
        self.is_on.store(is_on, Ordering::Relaxed);
    }
}

impl ClientCertVerifier for Asking {
    fn offer_client_auth(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // The client has one certificate for this address, if any.
        &[]
    }

    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match own.len() + intermediates.iter().map(|one| one.len()).sum::<usize>() {
            ..=CHAIN_BYTES => Ok(ClientCertVerified::assertion()),
            _ => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The short names of attribute types (RFC 4514, section 3; those of OpenSSL for others).
const TYPES: &[(&str, &str)] = &[
    ("2.5.4.3", "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "SERIALNUMBER"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "STREET"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.15", "BUSINESSCATEGORY"),
    ("2.5.4.42", "GN"),
    ("2.5.4.97", "ORGANIZATIONIDENTIFIER"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "EMAILADDRESS"),
    ("1.3.6.1.4.1.311.60.2.1.3", "JURISDICTIONC"),
];

fn identity(certificate: &CertificateDer<'_>) -> Option<Identity> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let subject = parsed.subject().iter_attributes().filter_map(attribute).collect();
    let alternative = parsed.subject_alternative_name().ok()?;
    let names = alternative.iter().flat_map(|extension| &extension.value.general_names);
    let names = names.filter_map(|name| match name {
        GeneralName::DNSName(name) | GeneralName::URI(name) => Some((*name).to_owned()),
        _ => None,
    });
    Some(Identity { subject, names: names.collect() })
}

/// An attribute whose value is text of a kind that is in use.
fn attribute(attribute: &AttributeTypeAndValue<'_>) -> Option<(String, String)> {
    let oid = attribute.attr_type().to_id_string();
    let short = TYPES.iter().find(|(known, _)| *known == oid).map(|(_, short)| (*short).to_owned());
    Some((short.unwrap_or(oid), attribute.as_str().ok()?.to_owned()))
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
        date_time_ymd,
    };

    use super::*;

    fn authority(name: &str) -> (Issuer<'static, KeyPair>, String) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        (Issuer::new(params, key), pem)
    }

    fn client() -> CertificateParams {
        let mut params = CertificateParams::new(vec!["hooks.example.com".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "webhooks");
        params.distinguished_name.push(DnType::OrganizationName, "Example, Ltd");
        params.subject_alt_names.push(SanType::URI("spiffe://example.com/hooks".try_into().unwrap()));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params
    }

    fn presented(chain: &[CertificateDer<'static>]) -> ClientCertificate {
        ClientCertificate { chain: chain.to_vec(), identity: OnceLock::new(), asked: Mutex::default() }
    }

    #[test]
    fn an_authority_vouches_for_what_it_has_issued_for_clients() {
        let ((issuer, pem), (_, other)) = (authority("ours"), authority("another"));
        let issued = |params: CertificateParams| {
            let key = KeyPair::generate().unwrap();
            presented(&[params.signed_by(&key, &issuer).unwrap().der().clone()])
        };
        let vouched =
            |pem: &str, shown: &ClientCertificate| ClientAuthority::new(pem).unwrap().vouches_for(shown);
        let shown = issued(client());
        assert!(vouched(&pem, &shown));
        assert!(!vouched(&other, &shown), "what another one was asked is not taken over");
        assert!(vouched(&format!("{other}\n{pem}"), &shown), "one of several");
        let mut expired = client();
        (expired.not_before, expired.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
        assert!(!vouched(&pem, &issued(expired)));
        let mut for_servers = client();
        for_servers.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        assert!(!vouched(&pem, &issued(for_servers)));
        let key = KeyPair::generate().unwrap();
        assert!(!vouched(&pem, &presented(&[client().self_signed(&key).unwrap().der().clone()])));
        assert!(!vouched(&pem, &presented(&[])));
    }

    #[test]
    fn a_certificate_says_whom_it_is_of() {
        let key = KeyPair::generate().unwrap();
        let shown = presented(&[client().self_signed(&key).unwrap().der().clone()]);
        let Identity { subject, names } = shown.identity();
        for expect in [("CN", "webhooks"), ("O", "Example, Ltd")] {
            let is_there = |(kind, value): &(String, String)| (kind.as_str(), value.as_str()) == expect;
            assert!(subject.iter().any(is_there), "{subject:?}");
        }
        assert_eq!(names, &["hooks.example.com", "spiffe://example.com/hooks"]);
        let broken = presented(&[CertificateDer::from(b"no certificate".to_vec())]);
        assert_eq!(broken.identity(), &Identity::default());
    }

    #[test]
    fn a_long_chain_is_refused_and_what_is_no_authority_is_an_error() {
        let asking = Asking::new();
        let refused = |bytes: usize| {
            let (own, above) = (CertificateDer::from(vec![0; 1]), CertificateDer::from(vec![0; bytes - 1]));
            asking.verify_client_cert(&own, &[above], UnixTime::now()).is_err()
        };
        assert_eq!((refused(CHAIN_BYTES), refused(CHAIN_BYTES + 1)), (false, true));
        for text in ["", "hunter2", "-----BEGIN CERTIFICATE-----\nhunter2\n-----END CERTIFICATE-----\n"] {
            let error = ClientAuthority::new(text).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
