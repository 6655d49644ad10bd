//! Webhooks: the URLs of integrators.

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use stampede_shared::{
    domain::webhook::{SECRET_PREFIX, check_url},
    events::{EVERY_TYPE, EventType},
    store::{
        shows,
        webhook_endpoints::{self, Endpoint, NewEndpoint},
    },
};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    app::SharedApp,
    error::{Code, FieldError, Problem},
    extract::{Admin, JsonBody, Path},
};

pub const NO_STORE: HeaderValue = HeaderValue::from_static("private, no-store");

/// The most endpoints. Each event is looked at for each of them.
const ENDPOINTS_MAX: i64 = 100;

/// How long the secret before signs as well, in seconds.
const PREVIOUS_SECRET_SECONDS: f64 = 86_400.0;

/// An endpoint that is to be registered.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookBody {
    /// Where events are posted to: https, without credentials, at most 2000 characters.
    #[schema(example = "https://shop.example/hooks/stampede")]
    url: String,
    /// Which events: `request.held`, `request.rejected`, `request.expired`, `booking.confirmed`,
    /// `booking.cancelled`, `payment.failed`, `payment.refunded`, `sale.state_changed`, or `*` for all.
    #[schema(example = json!(["booking.confirmed", "booking.cancelled"]))]
    event_types: Vec<String>,
    /// Only events of this show.
    show_id: Option<Uuid>,
}

/// An endpoint without its secret.
#[derive(Serialize, ToSchema)]
pub struct WebhookView {
    id: Uuid,
    url: String,
    event_types: Vec<String>,
    /// Null: events of all shows.
    show_id: Option<Uuid>,
    created_at: DateTime<Utc>,
    /// Since when every delivery has failed.
    failing_since: Option<DateTime<Utc>>,
    /// Since when nothing is delivered.
    disabled_at: Option<DateTime<Utc>>,
    disabled_reason: Option<String>,
}

/// An endpoint with its secret, shown this once.
#[derive(Serialize, ToSchema)]
pub struct NewWebhook {
    #[serde(flatten)]
    webhook: WebhookView,
    /// Signs each delivery as Standard Webhooks has it.
    #[schema(example = "whsec_…")]
    secret: String,
}

/// All endpoints.
#[derive(Serialize, ToSchema)]
pub struct WebhookList {
    webhooks: Vec<WebhookView>,
}

impl WebhookView {
    fn new(endpoint: Endpoint) -> WebhookView {
        WebhookView {
            id: endpoint.endpoint_id,
            url: endpoint.url,
            event_types: endpoint.event_types,
            show_id: endpoint.only_show_id,
            created_at: endpoint.created_at,
            failing_since: endpoint.failing_since,
            disabled_at: endpoint.disabled_at,
            disabled_reason: endpoint.disabled_reason,
        }
    }
}

/// Registers a URL that events are posted to. What happened before is not delivered.
///
/// Deliveries follow Standard Webhooks: `webhook-id` is the event's id and the same for each try,
/// `webhook-signature` is `v1,` and the HMAC-SHA256, in base64, of `id.timestamp.body` with the bytes that
/// the secret has behind `whsec_`, in base64 as well. The body is `{"type", "timestamp", "data"}`;
/// `data.sequence` counts up within `data.show_id`, in the order in which things happened. A delivery may
/// come twice, and behind a later one. Any answer but 2xx is a failure, redirects among them; tries go on for
/// about three days.
///
/// `data` of every event: `show_id`, `sequence`, `request_id` and `booking_id`, null where there is none. Beside it:
/// `request.held`: `hold_id`, `buyer_id`, `quantity`, `seats`, `section`, `total`, `fees`, `expires_at`;
/// `request.rejected`: `reason`; `request.expired`: `hold_id`, `buyer_id`, `quantity`; those of bookings and payments:
/// `hold_id`, `payment_id`, `buyer_id`, and `reason` where there is one; `sale.state_changed`: `from`, `to` and the
/// `reason` of the operator's command.
#[utoipa::path(
    post, path = "/v1/operator/webhooks", tag = "webhooks", security(("operator" = [])),
    request_body = WebhookBody,
    responses((status = 201, description = "The endpoint, its secret shown this once", body = NewWebhook))
)]
pub async fn create_webhook(
    State(app): State<SharedApp>,
    _: Admin,
    body: JsonBody,
) -> Result<impl IntoResponse, Problem> {
    let new = checked(&app, body.parse()?).await?;
    let secret = new.secret.clone();
    let pool = app.database.pool.clone();
    let made = written(async move { webhook_endpoints::create(&pool, &new, ENDPOINTS_MAX).await });
    let Some(made) = made.await? else {
        let detail = format!("there are {ENDPOINTS_MAX} endpoints, and that is the most");
        return Err(Problem::new(Code::TooManyWebhooks, detail));
    };
    let webhook = WebhookView::new(made);
    let made = NewWebhook { webhook, secret };
    Ok((
        StatusCode::CREATED,
        [(header::CACHE_CONTROL, NO_STORE)],
        Json(made),
    ))
}

/// The endpoint that a body means, or all that is wrong with it.
async fn checked(app: &SharedApp, body: WebhookBody) -> Result<NewEndpoint, Problem> {
    let mut errors = Vec::new();
    let url = check_url(&body.url, app.webhooks.webhook_allow_private);
    if let Err(detail) = &url {
        errors.push(FieldError::new("/url", *detail));
    }
    check_event_types(&body.event_types, &mut errors);
    if let Some(show_id) = body.show_id
        && shows::find(&app.database.pool, show_id).await?.is_none()
    {
        errors.push(FieldError::new("/show_id", "there is no such show"));
    }
    match url {
        Ok(url) if errors.is_empty() => Ok(NewEndpoint {
            endpoint_id: Uuid::now_v7(),
            url: url.into(),
            secret: new_secret(),
            event_types: body.event_types,
            only_show_id: body.show_id,
        }),
        _ => Err(Problem::invalid_body(errors)),
    }
}

fn check_event_types(event_types: &[String], errors: &mut Vec<FieldError>) {
    let types_max = EventType::ALL.len();
    if event_types.is_empty() || event_types.len() > types_max {
        let detail = format!("it must have 1 to {types_max} event types");
        errors.push(FieldError::new("/event_types", detail));
        return;
    }
    for (index, word) in event_types.iter().enumerate() {
        let pointer = format!("/event_types/{index}");
        if event_types[..index].contains(word) {
            errors.push(FieldError::new(pointer, "it is there already"));
        } else if word == EVERY_TYPE && event_types.len() > 1 {
            errors.push(FieldError::new(pointer, "`*` stands alone"));
        } else if word != EVERY_TYPE && EventType::parse(word).is_none() {
            errors.push(FieldError::new(pointer, "there is no such event type"));
        }
    }
}

fn new_secret() -> String {
    let secret = BASE64_STANDARD.encode(rand::random::<[u8; 32]>());
    format!("{SECRET_PREFIX}{secret}")
}

/// Runs a write in a task of its own: a client that leaves must not leave half of it.
pub async fn written<T: Send + 'static>(
    write: impl Future<Output = sqlx::Result<T>> + Send + 'static,
) -> Result<T, Problem> {
    let done = tokio::spawn(write).await;
    Ok(done.map_err(|error| Problem::internal(error.into()))??)
}

/// Lists the endpoints.
#[utoipa::path(
    get, path = "/v1/operator/webhooks", tag = "webhooks", security(("operator" = [])),
    responses((status = 200, description = "The endpoints, the newest first", body = WebhookList))
)]
pub async fn list_webhooks(
    State(app): State<SharedApp>,
    _: Admin,
) -> Result<impl IntoResponse, Problem> {
    // Two that came at the same time may have made one more.
    let endpoints = webhook_endpoints::list(&app.database.pool, 2 * ENDPOINTS_MAX).await?;
    let webhooks = endpoints.into_iter().map(WebhookView::new).collect();
    Ok((
        [(header::CACHE_CONTROL, NO_STORE)],
        Json(WebhookList { webhooks }),
    ))
}

/// Removes an endpoint. What is on its way to it is not delivered any more.
#[utoipa::path(
    delete, path = "/v1/operator/webhooks/{endpoint_id}", tag = "webhooks", security(("operator" = [])),
    params(("endpoint_id" = Uuid, Path)),
    responses((status = 204, description = "Removed"))
)]
pub async fn delete_webhook(
    State(app): State<SharedApp>,
    _: Admin,
    Path(endpoint_id): Path<Uuid>,
) -> Result<StatusCode, Problem> {
    let pool = app.database.pool.clone();
    let deleted = written(async move { webhook_endpoints::delete(&pool, endpoint_id).await });
    if !deleted.await? {
        return Err(no_webhook());
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Delivers to an endpoint again that was disabled: by its answer 410, or after three days of failures.
///
/// What waited for it goes on; what happened while it was disabled is not delivered. Again is fine.
#[utoipa::path(
    post, path = "/v1/operator/webhooks/{endpoint_id}/enable", tag = "webhooks", security(("operator" = [])),
    params(("endpoint_id" = Uuid, Path)),
    responses((status = 200, description = "The endpoint", body = WebhookView))
)]
pub async fn enable_webhook(
    State(app): State<SharedApp>,
    _: Admin,
    Path(endpoint_id): Path<Uuid>,
) -> Result<Response, Problem> {
    let pool = app.database.pool.clone();
    let enabled = written(async move { webhook_endpoints::enable(&pool, endpoint_id).await });
    let endpoint = enabled.await?.ok_or_else(no_webhook)?;
    let view = Json(WebhookView::new(endpoint));
    Ok(([(header::CACHE_CONTROL, NO_STORE)], view).into_response())
}

/// A secret, shown this once.
#[derive(Serialize, ToSchema)]
pub struct NewSecret {
    #[schema(example = "whsec_…")]
    secret: String,
}

/// Gives an endpoint a new secret.
///
/// For 24 hours deliveries have two signatures, by the new secret and by the one before.
#[utoipa::path(
    post, path = "/v1/operator/webhooks/{endpoint_id}/rotate-secret", tag = "webhooks",
    security(("operator" = [])), params(("endpoint_id" = Uuid, Path)),
    responses((status = 200, description = "The secret, shown this once", body = NewSecret))
)]
pub async fn rotate_webhook_secret(
    State(app): State<SharedApp>,
    _: Admin,
    Path(endpoint_id): Path<Uuid>,
) -> Result<Response, Problem> {
    let pool = app.database.pool.clone();
    let secret = new_secret();
    let stored = secret.clone();
    let rotated = written(async move {
        webhook_endpoints::rotate_secret(&pool, endpoint_id, &stored, PREVIOUS_SECRET_SECONDS).await
    });
    if !rotated.await? {
        return Err(no_webhook());
    }
    let headers = [(header::CACHE_CONTROL, NO_STORE)];
    Ok((headers, Json(NewSecret { secret })).into_response())
}

pub fn no_webhook() -> Problem {
    Problem::not_found("webhook")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(event_types: &[&str]) -> Vec<String> {
        let event_types: Vec<String> = event_types.iter().map(|&word| word.to_owned()).collect();
        let mut errors = Vec::new();
        check_event_types(&event_types, &mut errors);
        errors.into_iter().map(|error| error.pointer).collect()
    }

    #[test]
    fn event_types_are_known_words_or_a_star_alone() {
        assert!(refused(&["*"]).is_empty());
        assert!(refused(&EventType::ALL.map(EventType::as_str)).is_empty());
        assert_eq!(refused(&[]), ["/event_types"]);
        assert_eq!(refused(&["*"; 9]), ["/event_types"]);
        assert_eq!(
            refused(&["request.held", "request.met"]),
            ["/event_types/1"]
        );
        assert_eq!(
            refused(&["request.held", "request.held"]),
            ["/event_types/1"]
        );
        assert_eq!(refused(&["*", "request.held"]), ["/event_types/0"]);
    }

    #[test]
    fn a_secret_is_32_bytes_and_never_the_same() {
        let (one, other) = (new_secret(), new_secret());
        let bytes = BASE64_STANDARD.decode(one.strip_prefix("whsec_").unwrap());
        assert_eq!(bytes.unwrap().len(), 32);
        assert_ne!(one, other);
    }
}
