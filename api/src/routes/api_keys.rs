//! Operators' API keys.

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::IntoResponse,
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use stampede_shared::store::api_keys;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    app::SharedApp,
    error::Problem,
    extract::{Admin, JsonBody, Path},
    operator_keys::Role,
    show_body::check_text,
};

const NO_STORE: HeaderValue = HeaderValue::from_static("private, no-store");

/// A key that is to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiKeyBody {
    /// Whose it is, or what for.
    name: String,
    role: Role,
}

/// A key, shown this once.
#[derive(Serialize, ToSchema)]
pub struct NewApiKey {
    id: Uuid,
    name: String,
    role: Role,
    #[schema(example = "sk_…")]
    key: String,
}

/// Makes an API key.
#[utoipa::path(
    post, path = "/v1/operator/api-keys", tag = "operators", security(("operator" = [])),
    request_body = ApiKeyBody,
    responses((status = 201, description = "The key, shown this once", body = NewApiKey))
)]
pub async fn create_api_key(
    State(app): State<SharedApp>,
    _: Admin,
    body: JsonBody,
) -> Result<impl IntoResponse, Problem> {
    let ApiKeyBody { name, role } = body.parse()?;
    let mut errors = Vec::new();
    check_text("/name", &name, 200, &mut errors);
    if !errors.is_empty() {
        return Err(Problem::invalid_body(errors));
    }
    let (id, key) = create(&app, name.clone(), role).await?;
    let made = NewApiKey {
        id,
        name,
        role,
        key,
    };
    Ok((
        StatusCode::CREATED,
        [(header::CACHE_CONTROL, NO_STORE)],
        Json(made),
    ))
}

async fn create(app: &SharedApp, name: String, role: Role) -> Result<(Uuid, String), Problem> {
    let pool = app.database.pool.clone();
    let made = crate::create_api_key(pool, name, role);
    // A client that leaves must not leave half a write.
    let made = tokio::spawn(made)
        .await
        .map_err(|error| Problem::internal(error.into()))?;
    Ok(made?)
}

/// A key without its secret.
#[derive(Serialize, ToSchema)]
pub struct ApiKeyView {
    id: Uuid,
    name: String,
    #[schema(example = "operator")]
    role: String,
    created_at: DateTime<Utc>,
    revoked_at: Option<DateTime<Utc>>,
}

/// All keys.
#[derive(Serialize, ToSchema)]
pub struct ApiKeyList {
    api_keys: Vec<ApiKeyView>,
}

/// Lists the API keys.
#[utoipa::path(
    get, path = "/v1/operator/api-keys", tag = "operators", security(("operator" = [])),
    responses((status = 200, description = "The keys, the newest first", body = ApiKeyList))
)]
pub async fn list_api_keys(
    State(app): State<SharedApp>,
    _: Admin,
) -> Result<impl IntoResponse, Problem> {
    let keys = api_keys::list(&app.database.pool).await?;
    let views = keys.into_iter().map(|key| ApiKeyView {
        id: key.api_key_id,
        name: key.name,
        role: key.role,
        created_at: key.created_at,
        revoked_at: key.revoked_at,
    });
    let api_keys = views.collect();
    Ok((
        [(header::CACHE_CONTROL, NO_STORE)],
        Json(ApiKeyList { api_keys }),
    ))
}

/// Revokes an API key: it works for at most ten seconds more. Again is fine.
#[utoipa::path(
    delete, path = "/v1/operator/api-keys/{api_key_id}", tag = "operators", security(("operator" = [])),
    params(("api_key_id" = Uuid, Path)),
    responses((status = 204, description = "Revoked"))
)]
pub async fn revoke_api_key(
    State(app): State<SharedApp>,
    _: Admin,
    Path(api_key_id): Path<Uuid>,
) -> Result<StatusCode, Problem> {
    let pool = app.database.pool.clone();
    let revoked = tokio::spawn(async move { api_keys::revoke(&pool, api_key_id).await }).await;
    let revoked = revoked.map_err(|error| Problem::internal(error.into()))??;
    if !revoked {
        return Err(Problem::not_found("API key"));
    }
    Ok(StatusCode::NO_CONTENT)
}
