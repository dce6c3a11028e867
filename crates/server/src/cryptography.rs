//! The cryptography of TLS: that of ring, named in one place rather than as the default of the process.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

/// What handshakes and certificates are checked with.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
