//! The memory that strangers can take of a port: what one connection may occupy at most, and how many there are.
//!
//! Nothing of this is in a budget of a role, which counts bodies as it reads them. So it is bounded beforehand: every
//! connection counts for what it may occupy, in units of an HTTP/1 connection ([`CONNECTION_BYTES`]), and the units are
//! limited ([`MOST_CONNECTIONS`]).
//!
//! | connection | holds |
//! | --- | --- |
//! | HTTP/1 | a head or a piece of a body; about as much in buffers and state |
//! | TLS | a handshake that has begun; later what HTTP/1 holds, a record, and the client's certificates |
//! | HTTP/2 | bodies that nobody has read yet, requests that have begun, a head as single fields; frames, buffers and state |
//!
//! The head of a request whose body is awaited counts in the budget of the role, which can give it up.

/// What all connections of a port may occupy where the configuration sets no lower maximum. With 64 MiB of bodies and what
/// the process itself needs, this stays below 256 MiB.
const BUDGET_BYTES: usize = 128 * 1024 * 1024;

/// The longest head of a request; longer ones get 431. Over HTTP/1 it is also the largest read buffer, and a power of two, so
/// that the buffer never doubles beyond it. Over HTTP/2 every header counts for 32 bytes more (RFC 9113, section 10.5.1).
pub(crate) const HEAD_LIMIT_BYTES: usize = 16 * 1024;

/// The most headers of a request; more get 431. A short header occupies many times its length. The same number is hyper's
/// default for HTTP/1.
pub(crate) const HEAD_LIMIT_HEADERS: usize = 100;

/// What an HTTP/1 connection occupies at most, about.
const CONNECTION_BYTES: usize = 2 * HEAD_LIMIT_BYTES;

/// How much of the bodies that nobody has read yet one HTTP/2 connection holds over all its streams: what RFC 9113 (section
/// 6.9.2) gives it from its beginning, which cannot be less.
pub(crate) const HTTP2_WINDOW_BYTES: u32 = 65_535;

/// The same for one stream, which sends about so many bytes in a round trip: 1 MiB in 15 s where that takes up to 470 ms. Two
/// fit the connection, so that one whose body waits for memory does not stop the others.
pub(crate) const HTTP2_STREAM_WINDOW_BYTES: u32 = HTTP2_WINDOW_BYTES / 2;

/// How many requests one HTTP/2 connection has open at once; further ones wait at the client. Each takes about 8 KiB before
/// anything is decided about it.
pub(crate) const HTTP2_STREAMS: u32 = 32;

/// For how many connections one counts that has TLS: a handshake in the making takes up to 64 KiB, and an open session has
/// buffers of its own.
pub(crate) const TLS_UNITS: usize = 2;

/// What an HTTP/2 connection occupies at most, measured: with its window filled, its requests begun, or a head begun, which is
/// a map of up to 400 fields with 400 bytes each.
const HTTP2_CONNECTION_BYTES: usize = 256 * 1024;

/// For how many connections one counts that speaks HTTP/2.
pub(crate) const HTTP2_UNITS: usize = HTTP2_CONNECTION_BYTES / CONNECTION_BYTES;

/// The maximum number of connections where neither the configuration nor the descriptors set a lower one.
pub(crate) const MOST_CONNECTIONS: usize = BUDGET_BYTES / CONNECTION_BYTES;
