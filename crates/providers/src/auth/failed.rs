//! Which mechanisms a request failed: for the log of the operator.

use std::fmt;

use super::Denied;

/// The mechanisms that a request did not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed(u16);

/// In the order of the bits.
const NAMES: [&str; 9] = [
    "header",
    "query",
    "basic",
    "bearer",
    "oauth2",
    "hmac",
    "signature",
    "standard_webhooks",
    "client_certificate",
];

impl Failed {
    /// Nothing failed.
    pub const NONE: Self = Self(0);
    pub(super) const HEADER: Self = Self(1);
    pub(super) const QUERY: Self = Self(1 << 1);
    pub(super) const BASIC: Self = Self(1 << 2);
    pub(super) const BEARER: Self = Self(1 << 3);
    pub(super) const OAUTH2: Self = Self(1 << 4);
    pub(super) const HMAC: Self = Self(1 << 5);
    pub(super) const SIGNATURE: Self = Self(1 << 6);
    pub(super) const STANDARD_WEBHOOKS: Self = Self(1 << 7);
    pub(super) const CLIENT_CERTIFICATE: Self = Self(1 << 8);

    /// These, and the other one unless it passed. The same work either way.
    pub(super) fn or(self, other: Self, passed: bool) -> Self {
        Self(self.0 | other.0 & u16::from(passed).wrapping_sub(1))
    }

    pub(super) fn into_result(self) -> Result<(), (Denied, Self)> {
        if self == Self::NONE { Ok(()) } else { Err((Denied::Credentials, self)) }
    }
}

impl fmt::Display for Failed {
    /// `auth.header, auth.hmac`, as the settings are named.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed = NAMES.iter().enumerate().filter(|(bit, _)| self.0 >> bit & 1 == 1);
        for (place, (_, name)) in failed.enumerate() {
            write!(f, "{}auth.{name}", if place == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}
