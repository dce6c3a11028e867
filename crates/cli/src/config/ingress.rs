//! `[ingress]`: the port for webhooks, its limits, and the spool behind it.

use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use providers::SubjectKey;
use providers::auth::{Secret, networks};
use serde::Deserialize;

use super::check::{DAY_MS, MOST_BYTES, Mistake, Section, out_of_range};

/// The longest body that RabbitMQ can be made to take: 512 MiB.
const MOST_BODY_BYTES: u64 = 1 << 29;

/// The settings of the ingress.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ingress {
    /// Address and port.
    pub listen: SocketAddr,
    hosts: Vec<server::HostName>,
    body_limit_bytes: usize,
    body_memory_bytes: Option<usize>,
    unproved_body_memory_bytes: Option<usize>,
    answer_timeout_ms: u64,
    source_requests: usize,
    /// Proxies whose `X-Forwarded-For` is trusted.
    #[serde(deserialize_with = "networks")]
    pub trusted_proxies: Vec<IpNet>,
    subject_key: Secret,
    /// The fingerprint of the key that this one replaces.
    pub replaced_subject_key: String,
    /// The spool: events that the broker does not confirm.
    pub spool: Spool,
    #[serde(default)]
    limits: server::Limits,
    /// Certificate and key; without it, plain HTTP.
    #[serde(default)]
    pub tls: Option<server::Tls>,
}

/// The settings of the spool.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spool {
    /// The file; empty for `spool.db` in the data directory.
    pub file: PathBuf,
    /// The maximum size of what waits, in bytes; 0 for no spool.
    pub limit_bytes: u64,
    /// How long the broker may take to confirm before an event goes to the spool.
    pub patience_ms: u64,
}

impl Section for Ingress {
    fn mistakes(&self) -> Vec<Mistake> {
        let (memory, unproved) = (self.body_memory_bytes, self.unproved_body_memory_bytes);
        let mut mistakes = out_of_range(&[
            ("body_limit_bytes", self.body_limit_bytes as u64, MOST_BODY_BYTES),
            ("body_memory_bytes", memory.unwrap_or(1) as u64, MOST_BYTES),
            ("unproved_body_memory_bytes", unproved.unwrap_or(1) as u64, MOST_BYTES),
            ("answer_timeout_ms", self.answer_timeout_ms, DAY_MS),
            ("source_requests", self.source_requests as u64, 1_000_000),
            // 0: no spool.
            ("spool.limit_bytes", self.spool.limit_bytes.max(1), MOST_BYTES),
            ("spool.patience_ms", self.spool.patience_ms, DAY_MS),
        ]);
        if self.spool.limit_bytes > 0 && self.spool.patience_ms >= self.answer_timeout_ms {
            let limit = self.answer_timeout_ms;
            mistakes.push(Mistake::new(
                "spool.patience_ms",
                format!("expected less than ingress.answer_timeout_ms, {limit}: storing takes time, too"),
            ));
        }
        let memory = self.config().memory_mistake();
        mistakes.extend(memory.map(|(setting, message)| Mistake::new(setting, message)));
        if !self.subject_key.expose().is_empty() && self.subject_key().is_none() {
            mistakes.push(Mistake::new(
                "subject_key",
                "expected 64 hexadecimal digits, or \"\" for one in the data directory",
            ));
        }
        mistakes
    }
}

impl Ingress {
    /// The settings of the ingress itself.
    pub fn config(&self) -> ingress::Config {
        let (body_memory_bytes, unproved_body_memory_bytes) = ingress::Config::memory(
            self.body_limit_bytes,
            self.body_memory_bytes,
            self.unproved_body_memory_bytes,
        );
        ingress::Config {
            listen: self.listen,
            hosts: self.hosts.clone(),
            body_limit_bytes: self.body_limit_bytes,
            body_memory_bytes,
            unproved_body_memory_bytes,
            answer_timeout_ms: self.answer_timeout_ms,
            source_requests: self.source_requests,
            trusted_proxies: self.trusted_proxies.clone(),
            limits: self.limits,
            tls: self.tls.clone(),
        }
    }

    pub(super) fn subject_key_text(&self) -> &Secret {
        &self.subject_key
    }

    /// The key that hashes personal data in subjects; without it, that of the data directory.
    pub fn subject_key(&self) -> Option<SubjectKey> {
        parse_subject_key(&self.subject_key)
    }
}

/// The key as 64 hexadecimal digits.
pub(crate) fn parse_subject_key(text: &Secret) -> Option<SubjectKey> {
    parse_key(text).map(SubjectKey::from_bytes)
}

/// 32 bytes as 64 hexadecimal digits.
pub(crate) fn parse_key(text: &Secret) -> Option<[u8; 32]> {
    let digits = text.expose().trim().as_bytes();
    let mut key = [0; 32];
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in key.iter_mut().zip(digits.chunks(2)) {
        let digit = |c: u8| char::from(c).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok()?;
    }
    Some(key)
}
