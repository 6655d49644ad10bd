//! Buyers' tokens: JWTs that say who is asking, signed by the integrator or, for anonymous buyers, by us.
//!
//! Each configured key is tied to one algorithm, and a token is checked only with the key of the
//! algorithm that it names. So a public key can never be taken for an HS256 secret, and `none` has no key.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, bail};
use chrono::{DateTime, Utc};
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode,
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::{cache::Cache, settings::Settings};

/// Seconds that a clock may be wrong.
const LEEWAY_S: u64 = 30;

/// How many checked tokens a cache generation keeps. A check costs some microseconds with HS256 and a
/// hundred with ES256; a buyer who polls shows the same token many times.
const CHECKED_MAX: usize = 16_384;

/// Longer tokens are checked but not kept.
const KEPT_LENGTH_MAX: usize = 1_024;

/// How long the token of an anonymous buyer is good for.
const ANONYMOUS_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// The most characters in a buyer's id.
const BUYER_ID_LENGTH_MAX: usize = 200;

/// Who asks: the `sub` of a checked token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuyerId(Arc<str>);

impl BuyerId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    sub: String,
    exp: i64,
}

/// The keys, and what was checked with them.
pub struct BuyerTokens {
    keys: Vec<Key>,
    /// Signs the tokens of anonymous buyers; `None` when there are none.
    anonymous: Option<EncodingKey>,
    checked: Cache<Box<str>, (BuyerId, i64)>,
}

struct Key {
    algorithm: Algorithm,
    decoding: DecodingKey,
    validation: Validation,
}

impl Key {
    fn new(algorithm: Algorithm, decoding: DecodingKey) -> Key {
        let mut validation = Validation::new(algorithm);
        validation.leeway = LEEWAY_S;
        validation.validate_nbf = true;
        // Whom else a token is meant for is between the integrator and its buyers.
        validation.validate_aud = false;
        validation.set_required_spec_claims(&["exp", "sub"]);
        Key {
            algorithm,
            decoding,
            validation,
        }
    }
}

impl BuyerTokens {
    /// Reads the configured keys; without any, nobody could buy, so that is an error.
    pub fn new(settings: &Settings) -> anyhow::Result<BuyerTokens> {
        let public_key = settings.buyer_public_key.as_ref().map(|path| {
            std::fs::read(path)
                .with_context(|| format!("reading the buyer public key {}", path.display()))
        });
        let secret = settings.buyer_secret.as_ref();
        BuyerTokens::from_keys(
            secret,
            public_key.transpose()?.as_deref(),
            settings.anonymous_buyers,
        )
    }

    fn from_keys(
        secret: Option<&SecretString>,
        public_key: Option<&[u8]>,
        anonymous: bool,
    ) -> anyhow::Result<BuyerTokens> {
        let mut keys = Vec::new();
        if let Some(secret) = secret {
            let secret = secret.expose_secret().as_bytes();
            keys.push(Key::new(Algorithm::HS256, DecodingKey::from_secret(secret)));
        }
        if let Some(pem) = public_key {
            keys.push(read_public_key(pem)?);
        }
        if keys.is_empty() {
            bail!(
                "set STAMPEDE_BUYER_SECRET or STAMPEDE_BUYER_PUBLIC_KEY: without one no buyer can be known"
            );
        }
        let anonymous = secret
            .filter(|_| anonymous)
            .map(|secret| EncodingKey::from_secret(secret.expose_secret().as_bytes()));
        let checked = Cache::new(CHECKED_MAX);
        Ok(BuyerTokens {
            keys,
            anonymous,
            checked,
        })
    }

    /// Who presents this token; else what is wrong with it.
    pub fn check(&self, token: &str, now: DateTime<Utc>) -> Result<BuyerId, &'static str> {
        if let Some((buyer_id, expires_at)) = self.checked.get(token) {
            if expires_at > now.timestamp() {
                return Ok(buyer_id);
            }
            self.checked.remove(token);
        }
        let (buyer_id, expires_at) = self.verify(token)?;
        if token.len() <= KEPT_LENGTH_MAX {
            self.checked
                .insert(token.into(), (buyer_id.clone(), expires_at), 1);
        }
        Ok(buyer_id)
    }

    fn verify(&self, token: &str) -> Result<(BuyerId, i64), &'static str> {
        let header =
            decode_header(token).map_err(|_| "the bearer token is not a JWT that can be read")?;
        let key = self
            .keys
            .iter()
            .find(|key| key.algorithm == header.alg)
            .ok_or("no key is configured for the algorithm of the token")?;
        let claims = decode::<Claims>(token, &key.decoding, &key.validation)
            .map_err(|error| refusal(error.kind()))?
            .claims;
        let length = claims.sub.chars().count();
        if !(1..=BUYER_ID_LENGTH_MAX).contains(&length) || claims.sub.chars().any(char::is_control)
        {
            return Err(
                "the token's sub must have 1 to 200 characters, none of them a control character",
            );
        }
        Ok((BuyerId(claims.sub.into()), claims.exp))
    }

    /// Whether anonymous buyers can get a token.
    pub fn anonymous(&self) -> bool {
        self.anonymous.is_some()
    }

    /// A token for a new anonymous buyer; `None` when there are none.
    pub fn mint(&self, buyer_id: &str, now: DateTime<Utc>) -> Option<(String, DateTime<Utc>)> {
        let key = self.anonymous.as_ref()?;
        let expires_at = now + ANONYMOUS_FOR;
        let claims = Claims {
            sub: buyer_id.to_owned(),
            exp: expires_at.timestamp(),
        };
        let token = encode(&Header::new(Algorithm::HS256), &claims, key).ok()?;
        Some((token, expires_at))
    }
}

fn read_public_key(pem: &[u8]) -> anyhow::Result<Key> {
    if let Ok(key) = DecodingKey::from_ed_pem(pem) {
        return Ok(Key::new(Algorithm::EdDSA, key));
    }
    let key = DecodingKey::from_ec_pem(pem)
        .context("the buyer public key is neither an Ed25519 nor a P-256 public key in PEM")?;
    Ok(Key::new(Algorithm::ES256, key))
}

fn refusal(kind: &jsonwebtoken::errors::ErrorKind) -> &'static str {
    use jsonwebtoken::errors::ErrorKind;
    match kind {
        ErrorKind::ExpiredSignature => "the token has expired",
        ErrorKind::ImmatureSignature => "the token is not valid yet",
        ErrorKind::InvalidSignature => "the token's signature is wrong",
        ErrorKind::MissingRequiredClaim(_) => "the token lacks exp or sub",
        _ => "the token cannot be accepted",
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
    use serde_json::json;

    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    // Made for these tests: openssl genpkey -algorithm ed25519, openssl ecparam -name prime256v1.
    const ED25519: &str = include_str!("testdata/ed25519.pem");
    const ED25519_PUBLIC: &str = include_str!("testdata/ed25519.pub.pem");
    const P256: &str = include_str!("testdata/p256.pem");
    const P256_PUBLIC: &str = include_str!("testdata/p256.pub.pem");

    fn with_secret() -> BuyerTokens {
        BuyerTokens::from_keys(Some(&SecretString::from(SECRET)), None, true).unwrap()
    }

    fn with_public_key(pem: &str) -> BuyerTokens {
        BuyerTokens::from_keys(None, Some(pem.as_bytes()), true).unwrap()
    }

    fn sign(algorithm: Algorithm, key: &EncodingKey, claims: &serde_json::Value) -> String {
        encode(&Header::new(algorithm), claims, key).unwrap()
    }

    fn hs256(claims: &serde_json::Value) -> String {
        sign(
            Algorithm::HS256,
            &EncodingKey::from_secret(SECRET.as_bytes()),
            claims,
        )
    }

    fn in_an_hour() -> i64 {
        Utc::now().timestamp() + 3_600
    }

    #[test]
    fn a_signed_token_says_who_asks() {
        let tokens = with_secret();
        let token = hs256(&json!({"sub": "ada", "exp": in_an_hour(), "aud": "shop"}));
        for _ in 0..2 {
            assert_eq!(tokens.check(&token, Utc::now()).unwrap().as_str(), "ada");
        }
    }

    #[test]
    fn both_kinds_of_public_key_work() {
        let claims = json!({"sub": "ada", "exp": in_an_hour()});
        let ed25519 = EncodingKey::from_ed_pem(ED25519.as_bytes()).unwrap();
        let token = sign(Algorithm::EdDSA, &ed25519, &claims);
        assert!(
            with_public_key(ED25519_PUBLIC)
                .check(&token, Utc::now())
                .is_ok()
        );
        assert!(
            with_public_key(P256_PUBLIC)
                .check(&token, Utc::now())
                .is_err()
        );

        let p256 = EncodingKey::from_ec_pem(P256.as_bytes()).unwrap();
        let token = sign(Algorithm::ES256, &p256, &claims);
        assert!(
            with_public_key(P256_PUBLIC)
                .check(&token, Utc::now())
                .is_ok()
        );
        assert!(with_secret().check(&token, Utc::now()).is_err());
    }

    #[test]
    fn a_public_key_is_never_taken_for_a_secret() {
        let claims = json!({"sub": "ada", "exp": in_an_hour()});
        let confused = EncodingKey::from_secret(P256_PUBLIC.as_bytes());
        let token = sign(Algorithm::HS256, &confused, &claims);
        assert!(
            with_public_key(P256_PUBLIC)
                .check(&token, Utc::now())
                .is_err()
        );
    }

    #[test]
    fn a_token_without_a_signature_is_refused() {
        let part = |value: serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let claims = part(json!({"sub": "ada", "exp": in_an_hour()}));
        for algorithm in ["none", "None", "NONE", "HS256"] {
            let header = part(json!({"alg": algorithm, "typ": "JWT"}));
            assert!(
                with_secret()
                    .check(&format!("{header}.{claims}."), Utc::now())
                    .is_err()
            );
        }
    }

    #[test]
    fn what_is_wrong_with_a_token_refuses_it() {
        let other = EncodingKey::from_secret(b"another secret of thirty-two bytes");
        let good = json!({"sub": "ada", "exp": in_an_hour()});
        let wrong = [
            sign(Algorithm::HS256, &other, &good),
            sign(
                Algorithm::HS512,
                &EncodingKey::from_secret(SECRET.as_bytes()),
                &good,
            ),
            hs256(&json!({"sub": "ada"})),
            hs256(&json!({"exp": in_an_hour()})),
            hs256(&json!({"sub": "ada", "exp": Utc::now().timestamp() - 3_600})),
            hs256(&json!({"sub": "ada", "exp": in_an_hour(), "nbf": in_an_hour()})),
            hs256(&json!({"sub": "", "exp": in_an_hour()})),
            hs256(&json!({"sub": "a\u{0}a", "exp": in_an_hour()})),
            hs256(&json!({"sub": "a".repeat(201), "exp": in_an_hour()})),
            hs256(&json!({"sub": 7, "exp": in_an_hour()})),
            "sk_not_a_token".to_owned(),
            String::new(),
        ];
        for token in wrong {
            assert!(with_secret().check(&token, Utc::now()).is_err(), "{token}");
        }
    }

    #[test]
    fn a_kept_token_is_good_only_until_it_expires() {
        let tokens = with_secret();
        let kept = (BuyerId("ada".into()), 1_000);
        tokens.checked.insert("kept".into(), kept, 1);
        let at = |seconds| DateTime::UNIX_EPOCH + chrono::TimeDelta::seconds(seconds);
        assert!(tokens.check("kept", at(999)).is_ok());
        assert!(tokens.check("kept", at(1_000)).is_err());
    }

    #[test]
    fn an_anonymous_buyer_gets_a_token_that_works() {
        let tokens = with_secret();
        let (token, _) = tokens.mint("anonymous-1", Utc::now()).unwrap();
        assert_eq!(
            tokens.check(&token, Utc::now()).unwrap().as_str(),
            "anonymous-1"
        );
        assert!(!with_public_key(ED25519_PUBLIC).anonymous());
    }

    #[test]
    fn without_a_key_the_api_does_not_start() {
        assert!(BuyerTokens::from_keys(None, None, true).is_err());
        assert!(BuyerTokens::from_keys(None, Some(b"nonsense"), true).is_err());
    }
}
