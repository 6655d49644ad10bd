//! `Idempotency-Key`, draft-ietf-httpapi-idempotency-key-header.

use std::ops::RangeInclusive;

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderName, request::Parts},
};

use crate::error::{Code, Problem};

/// On an answer that was given before to the same key.
pub const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

const LENGTH: RangeInclusive<usize> = 8..=255;

/// 8 to 255 visible ASCII characters, as the client sent them.
#[derive(Debug)]
pub struct IdempotencyKey(pub String);

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<IdempotencyKey, Problem> {
        parse(&parts.headers)
    }
}

fn parse(headers: &HeaderMap) -> Result<IdempotencyKey, Problem> {
    let invalid = |detail| Problem::new(Code::IdempotencyKeyInvalid, detail);
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else {
        let detail = "send an Idempotency-Key header: 8 to 255 visible ASCII characters";
        return Err(Problem::new(Code::IdempotencyKeyMissing, detail));
    };
    if values.next().is_some() {
        return Err(invalid("there is more than one Idempotency-Key header"));
    }
    let bytes = value.as_bytes();
    if !LENGTH.contains(&bytes.len()) || !bytes.iter().all(u8::is_ascii_graphic) {
        return Err(invalid(
            "the Idempotency-Key must have 8 to 255 visible ASCII characters",
        ));
    }
    Ok(IdempotencyKey(String::from_utf8_lossy(bytes).into_owned()))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn of(values: &[&[u8]]) -> Result<String, Code> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("idempotency-key", HeaderValue::from_bytes(value).unwrap());
        }
        parse(&headers)
            .map(|key| key.0)
            .map_err(|problem| problem.code())
    }

    #[test]
    fn a_key_has_8_to_255_visible_ascii_characters() {
        assert_eq!(of(&[b"12345678"]).unwrap(), "12345678");
        assert!(of(&["x".repeat(255).as_bytes()]).is_ok());
        assert_eq!(of(&[]), Err(Code::IdempotencyKeyMissing));
        let too_long = "x".repeat(256);
        let wrong: [&[u8]; 6] = [
            b"",
            b"1234567",
            too_long.as_bytes(),
            b"with space",
            b"tab\tinside",
            "schl\u{fc}ssel".as_bytes(),
        ];
        for key in wrong {
            assert_eq!(of(&[key]), Err(Code::IdempotencyKeyInvalid));
        }
        assert_eq!(
            of(&[b"12345678", b"12345678"]),
            Err(Code::IdempotencyKeyInvalid)
        );
    }
}
