//! The TLS settings of a connection to a broker or a database. Knows paths alone: who connects reads the files.

use std::path::PathBuf;

use serde::Deserialize;

/// PEM files of a client. The server's certificate is verified together with its host name.
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
