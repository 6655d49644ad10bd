//! The operators' keys. They belong to no show; only their SHA-256 is known here.

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use uuid::Uuid;

/// The most keys that one call lists.
const LIST_MAX: i64 = 1_000;

/// A key as it is listed: everything but the key.
#[derive(Debug, Clone)]
pub struct ApiKey {
    pub api_key_id: Uuid,
    pub name: String,
    /// `viewer`, `operator` or `admin`.
    pub role: String,
    pub created_at: DateTime<Utc>,
    pub revoked_at: Option<DateTime<Utc>>,
}

/// Stores a new key.
pub async fn create(pool: &PgPool, key: &ApiKey, key_hash: &[u8; 32]) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into api_keys (api_key_id, name, role, key_hash, created_at)
        values ($1, $2, $3, $4, $5)",
        key.api_key_id,
        key.name,
        key.role,
        key_hash.as_slice(),
        key.created_at,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// The role of the key with that hash, if there is one that was not revoked.
pub async fn find_role(pool: &PgPool, key_hash: &[u8; 32]) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar!(
        "select role
        from api_keys
        where key_hash = $1 and revoked_at is null",
        key_hash.as_slice(),
    )
    .fetch_optional(pool)
    .await
}

/// The keys, newest first, the revoked ones among them.
pub async fn list(pool: &PgPool) -> sqlx::Result<Vec<ApiKey>> {
    sqlx::query_as!(
        ApiKey,
        "select api_key_id, name, role, created_at, revoked_at
        from api_keys
        order by created_at desc
        limit $1",
        LIST_MAX,
    )
    .fetch_all(pool)
    .await
}

/// Revokes a key; again is fine. False when there is no such key.
pub async fn revoke(pool: &PgPool, api_key_id: Uuid) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "update api_keys
        set revoked_at = coalesce(revoked_at, now())
        where api_key_id = $1",
        api_key_id,
    )
    .execute(pool)
    .await?;
    Ok(done.rows_affected() > 0)
}
