//! What the sender of an event was answered, as its message carries it to the record: one short text.

use std::fmt;
use std::net::IpAddr;

/// Who posted an event, and what the ingress answers once the event is durable.
///
/// As text: the status, the address and, if there is one, the sender's id, with a space between. Only the id may contain
/// spaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The HTTP status of the answer.
    pub status: u16,
    /// The address of the client, behind trusted proxies.
    pub client: IpAddr,
    /// The sender's own id of the event, where the source says which field or header has it.
    pub sender_id: Option<String>,
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text())
    }
}

impl Receipt {
    /// The text. Every event has one, and an IPv4 address is written without a formatter.
    pub fn to_text(&self) -> String {
        let Self { status, client, sender_id } = self;
        let mut text = String::with_capacity(TEXT_BYTES + sender_id.as_ref().map_or(0, String::len));
        decimal(*status, &mut text);
        match client {
            IpAddr::V4(client) => {
                for (at, octet) in client.octets().into_iter().enumerate() {
                    text.push(if at == 0 { ' ' } else { '.' });
                    decimal(octet.into(), &mut text);
                }
            }
            IpAddr::V6(client) => text.push_str(&format!(" {client}")),
        }
        if let Some(id) = sender_id {
            text.push(' ');
            text.push_str(id);
        }
        text
    }

    /// Reads the text; `None` if it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, ' ');
        Some(Self {
            status: parts.next()?.parse().ok()?,
            client: parts.next()?.parse().ok()?,
            sender_id: parts.next().map(str::to_owned),
        })
    }
}

/// What status, IPv4 address and the spaces around it take.
const TEXT_BYTES: usize = 24;

fn decimal(number: u16, text: &mut String) {
    if number >= 10 {
        decimal(number / 10, text);
    }
    text.push(char::from(b'0' + (number % 10) as u8));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_is_read_as_it_was_written() {
        let check = |client: &str, sender_id: Option<&str>, text: &str| {
            let sender_id = sender_id.map(str::to_owned);
            let receipt = Receipt { status: 200, client: client.parse().unwrap(), sender_id };
            assert_eq!(receipt.to_string(), text);
            assert_eq!(Receipt::parse(text), Some(receipt));
        };
        check("192.0.2.1", None, "200 192.0.2.1");
        check("10.0.255.100", Some("7"), "200 10.0.255.100 7");
        check("2001:db8::1", Some("evt 1"), "200 2001:db8::1 evt 1");
        for text in ["", "200", "ok 192.0.2.1", "200 somewhere evt-1"] {
            assert_eq!(Receipt::parse(text), None, "{text}");
        }
    }
}
