//! `ETag` and `If-None-Match`, RFC 9110.

use std::convert::Infallible;

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderValue, header, request::Parts},
};
use serde::Serialize;
use sha2::{Digest, Sha256};

/// The tags that the client has.
#[derive(Debug)]
pub struct IfNoneMatch(Vec<String>);

impl<S: Send + Sync> FromRequestParts<S> for IfNoneMatch {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<IfNoneMatch, Infallible> {
        Ok(IfNoneMatch::read(&parts.headers))
    }
}

impl IfNoneMatch {
    fn read(headers: &HeaderMap) -> IfNoneMatch {
        let lines = headers.get_all(header::IF_NONE_MATCH).iter();
        let lines = lines.filter_map(|line| line.to_str().ok());
        let tags = lines
            .flat_map(|line| line.split(','))
            .map(|tag| opaque(tag.trim()).to_owned());
        IfNoneMatch(tags.collect())
    }

    /// Whether the client sent no tag at all.
    pub fn is_absent(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the client has this already. The comparison is weak, as RFC 9110 wants it here.
    pub fn has(&self, etag: &HeaderValue) -> bool {
        let etag = opaque(etag.to_str().unwrap_or_default());
        self.0.iter().any(|tag| tag == "*" || tag == etag)
    }
}

fn opaque(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag)
}

/// A weak tag that is the same for the same content, on every replica.
pub fn etag_of(content: &impl Serialize) -> HeaderValue {
    let json = serde_json::to_vec(content).unwrap_or_default();
    let hash: [u8; 32] = Sha256::digest(&json).into();
    let short = hash
        .iter()
        .take(8)
        .fold(0_u64, |tag, byte| tag << 8 | u64::from(*byte));
    HeaderValue::try_from(format!("W/\"{short:016x}\"")).expect("hexadecimal is visible ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(if_none_match: &str, etag: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_NONE_MATCH, if_none_match.parse().unwrap());
        IfNoneMatch::read(&headers).has(&etag.parse().unwrap())
    }

    #[test]
    fn tags_are_compared_weakly() {
        assert!(
            has("\"a\"", "W/\"a\"") && has("W/\"a\"", "\"a\"") && has("\"b\", W/\"a\"", "\"a\"")
        );
        assert!(has("*", "\"a\""));
        assert!(!has("\"b\"", "\"a\"") && !has("", "\"a\""));
    }

    #[test]
    fn the_same_content_has_the_same_tag() {
        assert_eq!(etag_of(&[1, 2]), etag_of(&[1, 2]));
        assert_ne!(etag_of(&[1, 2]), etag_of(&[2, 1]));
    }
}
