//! The receipt of a body: what proves to its sender that it came, and how it was answered.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

/// The receipt of what was posted. It contains nothing of the body, and can be sent to the provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Receipt {
    /// The address that posted it, behind trusted proxies.
    pub client: String,
    /// The HTTP status of its answer. A success was answered once the event was stored durably; if that took longer than
    /// `ingress.answer_timeout_ms`, the answer was 503, and the sender was asked to send it again.
    pub status: u16,
    /// The sender's own id, where the source says which field or header has it, or the sender follows Standard Webhooks.
    pub sender_id: Option<String>,
    /// SHA-256 of the body in hexadecimal.
    pub body_sha256: String,
}

impl Receipt {
    /// The receipt of a body whose message had this header; `None` if it was not posted, or before receipts were kept.
    /// `webhook_id` is the header of Standard Webhooks.
    pub(crate) fn new(answer: Option<&str>, webhook_id: Option<&str>, body: &[u8]) -> Option<Self> {
        let event::Receipt { status, client, sender_id } = event::Receipt::parse(answer?)?;
        let sender_id = sender_id.as_deref().or(webhook_id);
        Some(Self {
            client: client.to_string(),
            status,
            // Several fields are lines.
            sender_id: sender_id.map(|id| id.replace(char::is_control, " ")),
            body_sha256: Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_senders_id_is_that_of_its_source_else_that_of_standard_webhooks() {
        let id = |answer: &str, webhook_id: Option<&str>| {
            Receipt::new(Some(answer), webhook_id, b"abc").unwrap().sender_id
        };
        assert_eq!(id("200 192.0.2.1 7\n8", Some("msg_1")).as_deref(), Some("7 8"));
        assert_eq!(id("200 192.0.2.1", Some("msg_1")).as_deref(), Some("msg_1"));
        assert_eq!(id("200 192.0.2.1", None), None);
        assert_eq!(Receipt::new(None, Some("msg_1"), b"abc"), None);
        // FIPS 180-2, appendix B.1.
        let hash = Receipt::new(Some("200 192.0.2.1"), None, b"abc").unwrap().body_sha256;
        assert_eq!(hash, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
