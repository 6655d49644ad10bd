//! Operators' API keys: `sk_` and 32 random bytes, shown once, stored as SHA-256.
//!
//! A key is looked up by its hash, so no secret is ever compared byte by byte. A revoked key works for
//! at most ten seconds more on a replica that has just seen it.

use std::time::{Duration, Instant};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sqlx::PgPool;
use stampede_shared::store::api_keys;
use utoipa::ToSchema;

use crate::cache::Cache;

/// How long a key that was looked up is believed.
const BELIEVED_FOR: Duration = Duration::from_secs(10);

/// How many known keys are kept.
const KEPT_MAX: usize = 1_000;

/// What the holder of a key may do; each role may do all that the ones before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Looks.
    Viewer,
    /// Creates shows and runs sales.
    Operator,
    /// Gives and takes keys.
    Admin,
}

impl Role {
    /// The word in the database and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Admin => "admin",
        }
    }

    /// The role of that word, if there is one.
    pub fn parse(word: &str) -> Option<Role> {
        [Role::Viewer, Role::Operator, Role::Admin]
            .into_iter()
            .find(|role| role.as_str() == word)
    }
}

/// A new key and the hash to store.
pub struct NewKey {
    /// Shown once.
    pub key: String,
    pub hash: [u8; 32],
}

impl NewKey {
    pub fn generate() -> NewKey {
        let key = format!(
            "sk_{}",
            BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
        );
        let hash = hash(&key);
        NewKey { key, hash }
    }
}

/// The keys that were seen lately.
pub struct OperatorKeys {
    known: Cache<[u8; 32], (Role, Instant)>,
}

impl OperatorKeys {
    pub fn new() -> OperatorKeys {
        OperatorKeys {
            known: Cache::new(KEPT_MAX),
        }
    }

    /// The role of a key that was looked up a moment ago.
    pub fn known_role(&self, key: &str) -> Option<Role> {
        let (role, seen_at) = self.known.get(&hash(key))?;
        (seen_at.elapsed() < BELIEVED_FOR).then_some(role)
    }

    /// The role of a key; `None` when there is no such key, or it was revoked.
    pub async fn find_role(&self, pool: &PgPool, key: &str) -> sqlx::Result<Option<Role>> {
        let hash = hash(key);
        let role = api_keys::find_role(pool, &hash).await?;
        let Some(role) = role.as_deref().and_then(Role::parse) else {
            self.known.remove(&hash);
            return Ok(None);
        };
        self.known.insert(hash, (role, Instant::now()), 1);
        Ok(Some(role))
    }
}

fn hash(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_long_and_never_the_same() {
        let (one, other) = (NewKey::generate(), NewKey::generate());
        assert!(one.key.starts_with("sk_") && one.key.len() == 46);
        assert_ne!(one.key, other.key);
        assert_eq!(one.hash, hash(&one.key));
    }

    #[test]
    fn roles_include_the_lesser_ones() {
        assert!(Role::Admin > Role::Operator && Role::Operator > Role::Viewer);
        assert_eq!(Role::parse("operator"), Some(Role::Operator));
        assert_eq!(Role::parse("root"), None);
    }
}
