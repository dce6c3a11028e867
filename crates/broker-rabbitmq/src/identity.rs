//! What a server says of itself: product and version, from the `server-properties` of `connection.start`.
//!
//! lapin keeps these to itself, so a connection of its own asks: protocol header out, first frame in, closed. Knows
//! only as much of AMQP 0-9-1's encoding (section 4.2) as that frame needs, and checks each of its lengths.

use std::io;

use event::ClientTls;
use futures_util::{AsyncReadExt, AsyncWriteExt};
use lapin::tcp::AsyncTcpStream;

use crate::tls;
use crate::url::Host;

/// Product and version of a server.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) product: String,
    pub(crate) version: String,
}

/// A method frame of channel 0 larger than this is no `connection.start` (RabbitMQ's is about 500 bytes).
const LARGEST_START: u32 = 128 * 1024;

/// Asks the server at this address.
pub(crate) async fn ask(host: &Host, files: Option<&ClientTls>) -> io::Result<Identity> {
    let runtime = lapin::runtime::default_runtime().map_err(io::Error::other)?;
    let addresses: Vec<_> = tokio::net::lookup_host((host.name.as_str(), host.port)).await?.collect();
    let mut stream = AsyncTcpStream::connect(&runtime, addresses).await?;
    if let Some(files) = files {
        stream = stream.into_tls(&host.name, tls::read(files)?.as_ref()).await?;
    }
    stream.write_all(b"AMQP\x00\x00\x09\x01").await?;
    // Frame type 1 (method), channel 0, length of the payload.
    let mut head = [0; 7];
    stream.read_exact(&mut head).await?;
    let [1, 0, 0, length @ ..] = head else { return Err(not_a_start()) };
    let length = u32::from_be_bytes(length);
    if length > LARGEST_START {
        return Err(not_a_start());
    }
    let mut payload = vec![0; length as usize];
    stream.read_exact(&mut payload).await?;
    read_start(&payload).ok_or_else(not_a_start)
}

fn not_a_start() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the server does not speak AMQP 0-9-1")
}

/// Reads class 10 (connection), method 10 (start), two version octets, then the table.
fn read_start(payload: &[u8]) -> Option<Identity> {
    let mut rest = payload.strip_prefix(&[0, 10, 0, 10])?.get(2..)?;
    let mut table = long_string(&mut rest)?;
    let mut identity = Identity::default();
    while !table.is_empty() {
        let [length, after @ ..] = table else { return None };
        let (name, after) = after.split_at_checked(usize::from(*length))?;
        let [kind, after @ ..] = after else { return None };
        table = after;
        match kind {
            // Long string, and table with the same framing.
            b'S' | b'F' => {
                let value = String::from_utf8_lossy(long_string(&mut table)?).into_owned();
                match name {
                    b"product" => identity.product = value,
                    b"version" => identity.version = value,
                    _ => {}
                }
            }
            // Boolean.
            b't' => table = table.get(1..)?,
            // RabbitMQ sends no other type here; product and version have been read by then, or are missing.
            _ => break,
        }
    }
    Some(identity)
}

fn long_string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let (value, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    *rest = after;
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(entries: &[(&str, u8, &[u8])]) -> Vec<u8> {
        let mut table = Vec::new();
        for (name, kind, value) in entries {
            table.push(u8::try_from(name.len()).unwrap());
            table.extend(name.as_bytes());
            table.push(*kind);
            if *kind != b't' {
                table.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
            }
            table.extend(*value);
        }
        let length = u32::try_from(table.len()).unwrap().to_be_bytes();
        [&[0, 10, 0, 10, 0, 9], &length[..], &table, &[0, 0, 0, 5], b"PLAIN"].concat()
    }

    #[test]
    fn product_and_version_are_found_among_other_properties() {
        let payload = start(&[
            ("capabilities", b'F', b"\x01xt\x01"),
            ("flag", b't', &[1]),
            ("product", b'S', b"RabbitMQ"),
            ("version", b'S', b"3.10.8"),
        ]);
        let identity = read_start(&payload).unwrap();
        assert_eq!((identity.product.as_str(), identity.version.as_str()), ("RabbitMQ", "3.10.8"));
    }

    #[test]
    fn a_frame_that_ends_anywhere_is_refused_or_read_without_a_panic() {
        let payload = start(&[("product", b'S', b"RabbitMQ"), ("version", b'S', b"4.0.1")]);
        for end in 0..payload.len() {
            let read = read_start(&payload[..end]);
            assert!(read.is_none() || read == read_start(&payload), "{end}");
        }
        assert_eq!(read_start(b"\x00\x0a\x00\x0b"), None);
    }
}
