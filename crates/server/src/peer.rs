//! The other end of a connection, as a service sees it.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::client_certificate::ClientCertificate;
use crate::connection::Activity;

/// The other end of the connection, in the extensions of every request.
#[derive(Clone)]
pub struct Peer {
    address: SocketAddr,
    activity: Option<Arc<Activity>>,
    certificate: Option<Arc<ClientCertificate>>,
}

impl Peer {
    /// A peer without a connection, for requests that no server has received.
    pub fn new(address: SocketAddr) -> Self {
        Self { address, activity: None, certificate: None }
    }

    pub(crate) fn connected(
        address: SocketAddr,
        activity: Arc<Activity>,
        certificate: Option<Arc<ClientCertificate>>,
    ) -> Self {
        Self { address, activity: Some(activity), certificate }
    }

    /// Its address: that of a proxy, if there is one.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate that it has presented, if it was asked for one and has one.
    pub fn certificate(&self) -> Option<&ClientCertificate> {
        self.certificate.as_deref()
    }

    /// Notes that a request has proved who sends it. From now on the connection is closed for no other one while it has a
    /// request, and further connections of the client do not wait for those of strangers. Cheap after the first time.
    pub fn authenticated(&self) {
        if let Some(activity) = &self.activity {
            activity.authenticated();
        }
    }
}
