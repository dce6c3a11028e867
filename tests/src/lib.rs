//! End-to-end and fault tests of the `malote` binary; see `suite/main.rs`.
