//! Content codings (RFC 9110, section 8.4.1): what a body was compressed with, and the body without it.
//!
//! The label is a hint and the body decides: a body that is not compressed as labelled stays as it is.

use std::io::Read;

use bytes::Bytes;
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use server::BodyError;

use crate::refusal::Refusal;

/// A supported coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Gzip,
    /// With the required zlib wrapper, or without.
    Deflate,
}

/// The coding that a request declares; `None` for none, `identity`, and values that are not codings, such as `UTF-8`.
/// Other registered codings, and several at once, are refused.
pub(crate) fn coding(headers: &HeaderMap) -> Result<Option<Coding>, Refusal> {
    let values = headers.get_all(CONTENT_ENCODING).iter();
    let names = values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    let mut coding = None;
    for name in names {
        let found = match name.trim().to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => Coding::Gzip,
            "deflate" => Coding::Deflate,
            // IANA, HTTP Content Coding Registry.
            "aes128gcm" | "br" | "compress" | "x-compress" | "dcb" | "dcz" | "exi" | "pack200-gzip"
            | "zstd" => {
                return Err(Refusal::ContentEncoding);
            }
            _ => continue,
        };
        if coding.replace(found).is_some() {
            return Err(Refusal::ContentEncoding);
        }
    }
    Ok(coding)
}

impl Coding {
    /// The body without the coding, no longer than the limit.
    pub(crate) fn decode(self, body: Bytes, limit_bytes: usize) -> Result<Bytes, Refusal> {
        let has_zlib_header = |body: &[u8]| match body {
            // RFC 1950, section 2.2.
            [cmf, flags, ..] => cmf & 0x0f == 8 && (u16::from(*cmf) << 8 | u16::from(*flags)) % 31 == 0,
            _ => false,
        };
        let decoded = match self {
            Self::Gzip => read(MultiGzDecoder::new(&body[..]), limit_bytes),
            Self::Deflate if has_zlib_header(&body) => read(ZlibDecoder::new(&body[..]), limit_bytes),
            Self::Deflate if body.first().is_some_and(|first| !b"{[ \t\r\n".contains(first)) => {
                read(DeflateDecoder::new(&body[..]), limit_bytes)
            }
            Self::Deflate => None,
        };
        match decoded {
            Some(decoded) if decoded.len() > limit_bytes => {
                Err(Refusal::Body(BodyError::TooLarge { limit_bytes }))
            }
            Some(decoded) => Ok(decoded.into()),
            None => Ok(body),
        }
    }
}

/// The output of the decoder, up to one byte more than the limit; `None` if the input is not in this coding.
fn read(decoder: impl Read, limit_bytes: usize) -> Option<Vec<u8>> {
    let mut decoded = Vec::new();
    decoder.take(limit_bytes as u64 + 1).read_to_end(&mut decoded).ok().map(|_| decoded)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;

    fn declared(values: &[&str]) -> Result<Option<Coding>, String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(CONTENT_ENCODING, value.parse().unwrap());
        }
        coding(&headers).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn only_what_is_a_coding_counts() {
        for none in [&[][..], &[""], &["identity"], &["Identity"], &["UTF-8"], &["utf8, identity"], &["none"]]
        {
            assert_eq!(declared(none), Ok(None), "{none:?}");
        }
        assert_eq!(declared(&["GZIP"]), Ok(Some(Coding::Gzip)));
        assert_eq!(declared(&["identity", "x-gzip"]), Ok(Some(Coding::Gzip)));
        assert_eq!(declared(&["deflate,"]), Ok(Some(Coding::Deflate)));
        for refused in [&["br"][..], &["zstd"], &["compress"], &["gzip, gzip"], &["gzip", "deflate"]] {
            assert!(declared(refused).is_err(), "{refused:?}");
        }
    }

    fn gzip(bytes: &[u8]) -> Bytes {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap().into()
    }

    #[test]
    fn a_body_is_decoded_whatever_wrapper_it_has() {
        const BODY: &[u8] = br#"{"event_id": "ORDER_CREATED"}"#;
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
        zlib.write_all(BODY).unwrap();
        let mut raw = DeflateEncoder::new(Vec::new(), Compression::default());
        raw.write_all(BODY).unwrap();
        for (coding, body) in [
            (Coding::Gzip, gzip(BODY)),
            (Coding::Gzip, Bytes::from([gzip(&BODY[..5]), gzip(&BODY[5..])].concat())),
            (Coding::Deflate, zlib.finish().unwrap().into()),
            (Coding::Deflate, raw.finish().unwrap().into()),
            // Labelled as compressed, but not compressed.
            (Coding::Gzip, BODY.into()),
            (Coding::Deflate, BODY.into()),
        ] {
            assert_eq!(coding.decode(body, 1024).unwrap(), BODY, "{coding:?}");
        }
    }

    #[test]
    fn what_is_broken_stays_and_what_grows_too_long_is_refused() {
        let broken = gzip(b"{}").slice(..15);
        assert_eq!(Coding::Gzip.decode(broken.clone(), 1024).unwrap(), broken);
        let bomb = gzip(&vec![b' '; 10_000_000]);
        assert!(bomb.len() < 20_000);
        let refused = Coding::Gzip.decode(bomb, 1 << 20);
        assert!(matches!(refused, Err(Refusal::Body(BodyError::TooLarge { limit_bytes: 1_048_576 }))));
        assert_eq!(Coding::Gzip.decode(gzip(&[b' '; 1024]), 1024).unwrap().len(), 1024);
    }
}
