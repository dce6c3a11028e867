//! The one HTTP request that the harness needs: to RabbitMQ's administration API, on loopback, as `guest`.
//!
//! HTTP/1.1 with `Connection: close`, so that the answer ends where the connection does. It refuses to know
//! anything more of HTTP; a client library would cost every test build more than these lines.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// `guest:guest`, RabbitMQ's user for loopback connections, in the form of RFC 7617.
const AUTHORIZATION: &str = "Basic Z3Vlc3Q6Z3Vlc3Q=";

/// Sends an empty request and returns the body of a 2xx answer.
pub(crate) fn request(method: &str, port: u16, path: &str) -> Result<String> {
    let timeout = Some(Duration::from_secs(30));
    let mut stream =
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context("connecting to RabbitMQ's API")?;
    stream.set_read_timeout(timeout).context("setting a time-out")?;
    stream.set_write_timeout(timeout).context("setting a time-out")?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {AUTHORIZATION}\r\nContent-Type: application/json\r\n\
         Content-Length: 0\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).context("writing to RabbitMQ's API")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).context("reading from RabbitMQ's API")?;
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.split(' ').nth(1).unwrap_or_default();
    if !status.starts_with('2') {
        bail!("RabbitMQ's API answered {method} {path} with {:?}", answer.lines().next().unwrap_or_default());
    }
    Ok(answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}
