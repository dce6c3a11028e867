//! HTTP/2 by hand (RFC 9113): the maximum number of posts on one connection, with bodies that never end.

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::counts::Counts;

/// More streams than the server allows.
const STREAMS: u32 = 128;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame is short").to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The head of a post as literals (RFC 7541): POST, http, and the rest by name or by index of the static table.
fn head() -> Vec<u8> {
    let mut head = vec![0x83, 0x86];
    let mut literal = |name: &[u8], value: &str| {
        head.extend(name);
        head.push(u8::try_from(value.len()).expect("shorter than 127"));
        head.extend(value.as_bytes());
    };
    literal(&[0x04], "/webhooks/signed");
    literal(&[0x01], "localhost");
    literal(&[0x0f, 0x10], "application/json");
    literal(b"\x00\x0bx-signature", &"0".repeat(64));
    head
}

fn preface() -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[]));
    bytes.extend(frame(SETTINGS, ACK, 0, &[]));
    bytes
}

/// So many posts, and so many bytes of each body in one frame. All together may be 65,535 before the server has read
/// anything (section 6.9.2).
pub fn posts(streams: u32, body_bytes: usize) -> Vec<u8> {
    let mut bytes = preface();
    for stream in (0..streams).map(|n| 2 * n + 1) {
        bytes.extend(frame(HEADERS, END_HEADERS, stream, &head()));
    }
    for stream in (0..streams).map(|n| 2 * n + 1) {
        bytes.extend(frame(DATA, 0, stream, &vec![b'x'; body_bytes]));
    }
    bytes
}

/// A head of so many short headers, each as a literal, that is not ended.
pub fn unfinished_head(headers: usize) -> Vec<u8> {
    let literals = (0..headers).flat_map(|n| format!("\0\u{4}x{n:03}\u{1}y").into_bytes());
    let mut bytes = preface();
    bytes.extend(frame(HEADERS, 0, 1, &head().into_iter().chain(literals).collect::<Vec<_>>()));
    bytes
}

/// Opens as many streams as it may, sends a part of each body, and waits for the end of the connection.
pub async fn flood(mut stream: TcpStream, counts: &Counts) -> Result<()> {
    stream.write_all(&posts(STREAMS, 511)).await?;
    let mut answer = [0; 4096];
    while stream.read(&mut answer).await? > 0 {}
    counts.answered(&[]);
    Ok(())
}
