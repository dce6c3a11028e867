//! Signatures over parts of a request, by secrets and by private keys.

use super::*;

#[test]
fn a_signature_covers_any_parts_of_a_request() {
    let check = |toml: &str| {
        let auth = auth(toml);
        assert_eq!(auth.mistakes(), [], "{toml}");
        assert_eq!(Request::signed_by(&auth).check(&auth), Ok(()), "{toml}");
        assert_eq!(Request::signed_by(&rotated(toml, "secrets")).check(&auth), WRONG, "{toml}");
        assert_eq!(Request::signed_by(&auth).check(&rotated(toml, "secrets")), Ok(()), "{toml}");
        assert_eq!(Request::bare().check(&auth), WRONG, "{toml}");
        auth
    };
    let stripe = check(
        r#"auth.signature = {header = "stripe-signature", field = "v1", signed = "{field:t}.{body}", timestamp = {field = "t"}, secrets = ["a"]}"#,
    );
    let signed = || Request::signed_by(&stripe);
    assert_eq!(signed().body(b"{}").check(&stripe), WRONG);
    assert_eq!(signed().after_seconds(300).check(&stripe), Ok(()));
    assert_eq!(signed().after_seconds(301).check(&stripe), WRONG);
    // Another time is another text, and one of several signatures has to fit.
    let header = signed().headers["stripe-signature"].to_str().unwrap().to_owned();
    let with = |value: &str| signed().with("stripe-signature", value).check(&stripe);
    assert_eq!(with(&header.replace("t=17", "t=17 ")), WRONG);
    assert_eq!(with(&header.replace("v1=", "v1=00,v0=11,v1=")), Ok(()));
    assert_eq!(with(&header.replace("v1=", "v0=")), WRONG);
    assert_eq!(with(&header.to_uppercase().replace("T=", "t=").replace("V1=", "v1=")), Ok(()));
    let mercado = check(
        r#"auth.signature = {header = "x-signature", field = "v1", signed = "[id:{query:data.id:lower};]request-id:{header:x-request-id};ts:{field:ts};", timestamp = {field = "ts", tolerance_s = 60}, secrets = ["a"]}"#,
    );
    assert_eq!(Request::signed_by(&mercado).query("data.id=other").check(&mercado), WRONG);
    assert_eq!(Request::signed_by(&mercado).without("x-request-id").check(&mercado), WRONG);
    let milliseconds = auth(
        r#"auth.signature = {header = "x-s", signed = "{header:x-time}", timestamp = {header = "x-time"}, secrets = ["Jefe"]}"#,
    );
    // openssl dgst -sha256 -hmac Jefe of 1700000000123.
    let request = || {
        let request = Request::bare().with("x-time", "1700000000123");
        request.with("x-s", "0e0a4e21ec5e2576edae96c0fff20ab337004d8ac2dc7acf2ee3fcf10a2e4d09")
    };
    assert_eq!(request().check(&milliseconds), Ok(()));
    assert_eq!(request().after_seconds(301).check(&milliseconds), WRONG);
    let plain = check(
        r#"auth.signature = {header = "x-authenticity-token", algorithm = "sha256", signed = "{secret}-{body}", secrets = ["a"]}"#,
    );
    assert_eq!(Request::signed_by(&plain).body(b"{}").check(&plain), WRONG);
    for rest in [
        r#"algorithm = "hmac-sha512", encoding = "base64url""#,
        r#"algorithm = "hmac-sha1", encoding = "base64""#,
    ] {
        check(&format!(r#"auth.signature = {{header = "x-s", prefix = "v0=", {rest}, secrets = ["a"]}}"#));
    }
}

#[test]
fn an_hmac_is_the_one_that_others_compute() {
    // openssl dgst -hmac key of "what do ya want for nothing?" (RFC 4231, test case 2).
    let body = b"what do ya want for nothing?";
    let check = |algorithm: &str, encoding: &str, expect: &str| {
        let auth = auth(&format!(
            r#"auth.signature = {{header = "x-s", algorithm = "{algorithm}", encoding = "{encoding}", secrets = ["Jefe"]}}"#
        ));
        assert_eq!(Request::bare().with("x-s", expect).body(body).check(&auth), Ok(()), "{algorithm}");
    };
    check("hmac-sha256", "hex", "5BDCC146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    check(
        "hmac-sha512",
        "hex",
        "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
    );
    check("hmac-sha256", "base64url", "W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM");
}

#[test]
fn a_mistake_in_a_signature_is_named() {
    let key = r#"public_keys = ["d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"]"#;
    let check = |rest: &str, expect: &str| {
        let mistakes = auth(&format!(r#"auth.signature = {{header = "x-s", {rest}}}"#)).mistakes();
        assert!(mistakes.iter().any(|(path, _)| path == expect), "{rest}: {mistakes:?}");
    };
    check(r#"algorithm = "sha256", secrets = ["a"]"#, "signature.signed");
    check(r#"algorithm = "ed25519""#, "signature.public_keys");
    check(&format!(r#"algorithm = "ed25519", secrets = ["a"], {key}"#), "signature.secrets");
    check(&format!(r#"secrets = ["a"], {key}"#), "signature.public_keys");
    check("secrets = []", "signature.secrets");
    check(r#"secrets = ["a"], field = "v1", signed = "{field:v1}""#, "signature.signed");
    check(r#"secrets = ["a"], signed = "{header:X-S}""#, "signature.signed");
    check(r#"secrets = ["a"], timestamp = {field = "t"}"#, "signature.timestamp");
    check(r#"secrets = ["a"], signed = "{field:t}", timestamp = {}"#, "signature.timestamp");
    check(
        r#"secrets = ["a"], signed = "{field:t}", timestamp = {field = "t", tolerance_s = 0}"#,
        "signature.timestamp.tolerance_s",
    );
    check(
        r#"secrets = ["a"]}
        auth.hmac = {header = "x-s", secrets = ["a"]"#,
        "signature.header",
    );
    check(&format!(r#"algorithm = "ecdsa-p256", {key}"#), "signature.public_keys");
    for text in ["", "AAAA", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"] {
        assert!(PublicKey::try_from(text.to_owned()).is_err(), "{text}");
    }
}

#[test]
fn a_signature_by_a_private_key_is_verified_with_the_public_one() {
    let check = |algorithm: &str, encoding: &str, key: &str, signature: &str| {
        let auth = auth(&format!(
            "auth.signature = {{header = \"x-s\", algorithm = {algorithm:?}, encoding = {encoding:?}, public_keys = [{key:?}]}}"
        ));
        assert_eq!(auth.mistakes(), [], "{algorithm}");
        assert!(auth.has_secret() && auth.is_signed() && auth.secrets().is_empty());
        let request = || Request::bare().with("x-s", signature).body(KEY_BODY);
        assert_eq!(request().check(&auth), Ok(()), "{algorithm}");
        assert_eq!(request().body(BODY).check(&auth), WRONG, "{algorithm}");
        let half = &signature[..signature.len() / 2];
        assert_eq!(Request::bare().with("x-s", half).body(KEY_BODY).check(&auth), WRONG, "{algorithm}");
        assert!(auth.sign(KEY_BODY, now()) == Signed::default());
    };
    for [algorithm, encoding, key, signature] in KEYS {
        check(algorithm, encoding, key, signature);
    }
}

/// What the keys below sign.
const KEY_BODY: &[u8] = br#"{"id": "ORDE_1"}"#;

/// Algorithm, encoding, public key and signature, as openssl makes them.
const KEYS: [[&str; 4]; 5] = [
    [
        "ed25519",
        "hex",
        "0a455ba940b95633c9950d2858a6d75d34dd0c0a92087b348ade591a4356040b",
        "30c5e516fd9055d6a6d40f14855c72a4dbcb3fd9cf4787bebe9541a77e43eff732c8d0cfd79a2b75fe07b09325deab8ac65dbe621bb78d8277ef1dce424b310f",
    ],
    [
        "ed25519",
        "base64",
        "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEACkVbqUC5VjPJlQ0oWKbXXTTdDAqSCHs0it5ZGkNWBAs=\n-----END PUBLIC KEY-----",
        "MMXlFv2QVdam1A8UhVxypNvLP9nPR4e+vpVBp35D7/cyyNDP15ordf4HsJMl3quKxl2+Yhu3jYJ37x3OQksxDw==",
    ],
    [
        "ecdsa-p256",
        "base64",
        "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEtXyXA9Or+Pk27orU7TrKuihM0T2QwCJNR720Fk1A8JH1eVVybf5o+TUkv0M6YbwbI6suReBq9eHUzCJ29StDPg==",
        "MEUCIQCgAfCxe7XT4zs4Hjba4UBN/xAdGdd7lMELM8vFNlNF0wIgHqZ4kU+APQttIdVUJlbVg33prKGBk01szLIC/H1kcDE=",
    ],
    [
        "ecdsa-p256",
        "base64url",
        "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEtXyXA9Or+Pk27orU7TrKuihM0T2QwCJNR720Fk1A8JH1eVVybf5o+TUkv0M6YbwbI6suReBq9eHUzCJ29StDPg==",
        "oAHwsXu10-M7OB422uFATf8QHRnXe5TBCzPLxTZTRdMepniRT4A9C20h1VQmVtWDfemsoYGTTWzMsgL8fWRwMQ",
    ],
    [
        "rsa-sha256",
        "base64",
        "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA0CpgDINzZbR/weFlPhcW\nunsBY9K75nKNkh4kXTE5nVOXNfGSoyDPgxm1zjMtWDDLDL+OhMmbScK7HRqsTplX\nfig2Ha5Vxl6xDWvRfe76tLPSkDC+35Eg3A0fh3uqtuszgHdOyND65EjsGO4+t38s\ntYy2uofdppXwXZNUxGMQ9twW4DiTXOJ9TVnssoco+MnuS+DjlGXvmofrh8u+qZ7k\nBULrNO1p/D03MJdvLhLQH/pJoSHwBW7pKKBUAbJ5CaP/bPEtMD5qrAFR3j5TDQv/\np6Geki0Hoa2zqtqu5Mp3E+suGPlUoi30deA47yQ2iamK9OaPlb1W1mVUqCMf/U4M\nuwIDAQAB\n-----END PUBLIC KEY-----",
        "KZAqs/H95pcwzrWj/ROzw6ZSvTpMKZkBM2ySoSJXj1jawsekaXkRJ8i0ULZ/e0sYrZzvXWNzYdJg+zmN4gI/pOVE+JaS6adrlzxpX+F9y3QeCttRrvCQjVVWvyhiU6Ak1RRvp+TGyTiMZGlwC1zqEtTYzyfLTl6lG/CSQTXf+8XBVciMcaT7sl0kLOt1liQth2mQUfBj4Q99CT65v0wPY7RKbT62NzptwYKCCgnRoGoUsXeE+qw/4J1UxK6nlmM/tv9HyS2O7FBE4QZnpENotmZeb3MCwlVVMMMAYdlOh1yQRzI8r4KzcivdImFlgkJ37i0J3dPcj/d0K357lJkXww==",
    ],
];
