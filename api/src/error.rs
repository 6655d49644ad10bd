//! The one HTTP error: `application/problem+json` as RFC 9457 has it.
//!
//! A handler returns a [`Problem`]; the outermost layer ([`crate::observe`]) adds the request id, logs
//! what is internal once, and writes the body. Nothing internal is ever shown.

use std::{borrow::Cow, sync::Arc};

use axum::{
    Json,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use serde::Serialize;
use stampede_payments::till::TillError;
use stampede_shared::store::error::is_transient;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::lookups::FindError;

/// How long a client should leave a server alone that cannot take more, in seconds.
const RETRY_AFTER_S: u32 = 1;

/// What is wrong, one stable word for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    InvalidJson,
    InvalidRequest,
    InvalidParameter,
    IdempotencyKeyMissing,
    IdempotencyKeyInvalid,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    SaleNotOpen,
    SaleClosed,
    SaleCommandRefused,
    PaymentDeclined,
    PaymentFailed,
    HoldCancelled,
    AlreadyConfirmed,
    PaymentInProgress,
    PaymentVoided,
    PaymentRefunded,
    TooLittleTime,
    TooManyTries,
    NoGateway,
    NotRefundable,
    ShowCancelled,
    TooManyWebhooks,
    HoldExpired,
    BodyTooLarge,
    UnsupportedMediaType,
    InvalidBody,
    IdempotencyKeyReused,
    RateLimited,
    HeadersTooLarge,
    Internal,
    QueueFull,
    Overloaded,
    Unavailable,
    Draining,
}

impl Code {
    /// The word in `code` and in `type`.
    pub fn as_str(self) -> &'static str {
        self.entry().0
    }

    pub fn status(self) -> StatusCode {
        self.entry().1
    }

    fn title(self) -> &'static str {
        self.entry().2
    }

    #[rustfmt::skip] // a table
    fn entry(self) -> (&'static str, StatusCode, &'static str) {
        use StatusCode as S;
        match self {
            Code::InvalidJson => ("invalid-json", S::BAD_REQUEST, "The body is not JSON"),
            Code::InvalidRequest => ("invalid-request", S::BAD_REQUEST, "The request cannot be read"),
            Code::InvalidParameter => ("invalid-parameter", S::BAD_REQUEST, "A parameter is wrong"),
            Code::IdempotencyKeyMissing => ("idempotency-key-missing", S::BAD_REQUEST, "The Idempotency-Key header is missing"),
            Code::IdempotencyKeyInvalid => ("idempotency-key-invalid", S::BAD_REQUEST, "The Idempotency-Key header is wrong"),
            Code::Unauthorized => ("unauthorized", S::UNAUTHORIZED, "No valid credentials"),
            Code::Forbidden => ("forbidden", S::FORBIDDEN, "The key lacks the role"),
            Code::NotFound => ("not-found", S::NOT_FOUND, "There is no such thing"),
            Code::MethodNotAllowed => ("method-not-allowed", S::METHOD_NOT_ALLOWED, "The resource has no such method"),
            Code::RequestTimeout => ("request-timeout", S::REQUEST_TIMEOUT, "The body did not arrive in time"),
            Code::SaleNotOpen => ("sale-not-open", S::CONFLICT, "The sale is not open yet"),
            Code::SaleClosed => ("sale-closed", S::CONFLICT, "The sale is closed"),
            Code::SaleCommandRefused => ("sale-command-refused", S::CONFLICT, "The sale is not in a state for that"),
            Code::PaymentDeclined => ("payment-declined", S::PAYMENT_REQUIRED, "The payment was declined"),
            Code::PaymentFailed => ("payment-failed", S::PAYMENT_REQUIRED, "The payment failed"),
            Code::PaymentInProgress => ("payment-in-progress", S::CONFLICT, "A payment is in flight"),
            Code::PaymentVoided => ("payment-voided", S::CONFLICT, "The payment was let go, nothing was charged"),
            Code::PaymentRefunded => ("payment-refunded", S::CONFLICT, "The seats were gone, the money goes back"),
            Code::TooLittleTime => ("too-little-time", S::CONFLICT, "The hold ends too soon to begin a payment"),
            Code::TooManyTries => ("too-many-tries", S::CONFLICT, "Too many tries to pay for the hold"),
            Code::NoGateway => ("no-gateway", S::CONFLICT, "This sale cannot take payments"),
            Code::NotRefundable => ("not-refundable", S::CONFLICT, "The booking cannot be cancelled by its buyer"),
            Code::ShowCancelled => ("show-cancelled", S::CONFLICT, "The show was cancelled"),
            Code::TooManyWebhooks => ("too-many-webhooks", S::CONFLICT, "There are too many webhooks"),
            Code::HoldCancelled => ("hold-cancelled", S::CONFLICT, "The hold was cancelled"),
            Code::AlreadyConfirmed => ("already-confirmed", S::CONFLICT, "The hold is a booking already"),
            Code::HoldExpired => ("hold-expired", S::GONE, "The hold has expired"),
            Code::BodyTooLarge => ("body-too-large", S::PAYLOAD_TOO_LARGE, "The body is too large"),
            Code::UnsupportedMediaType => ("unsupported-media-type", S::UNSUPPORTED_MEDIA_TYPE, "The body must be application/json"),
            Code::InvalidBody => ("invalid-body", S::UNPROCESSABLE_ENTITY, "The body says something impossible"),
            Code::IdempotencyKeyReused => ("idempotency-key-reused", S::UNPROCESSABLE_ENTITY, "The Idempotency-Key was used for another body"),
            Code::HeadersTooLarge => ("headers-too-large", S::REQUEST_HEADER_FIELDS_TOO_LARGE, "The URL or the headers are too large"),
            Code::RateLimited => ("rate-limited", S::TOO_MANY_REQUESTS, "Too many requests"),
            Code::Internal => ("internal", S::INTERNAL_SERVER_ERROR, "Something went wrong on our side"),
            Code::QueueFull => ("queue-full", S::SERVICE_UNAVAILABLE, "The line is full"),
            Code::Overloaded => ("overloaded", S::SERVICE_UNAVAILABLE, "The server is overloaded"),
            Code::Unavailable => ("unavailable", S::SERVICE_UNAVAILABLE, "The database is away"),
            Code::Draining => ("draining", S::SERVICE_UNAVAILABLE, "The server is shutting down"),
        }
    }
}

/// Why a request was refused, or failed.
#[derive(Debug)]
pub struct Problem(Box<Parts>);

#[derive(Debug)]
struct Parts {
    code: Code,
    /// Another status than the code's own, for what the framework refused.
    status: Option<StatusCode>,
    detail: Cow<'static, str>,
    errors: Vec<FieldError>,
    opens_at: Option<DateTime<Utc>>,
    headers: HeaderMap,
    cause: Option<anyhow::Error>,
}

/// What is wrong with one part of a body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// Where, as RFC 6901 has it; empty for the whole body.
    #[schema(example = "/wishes/0/seats/1")]
    pub pointer: String,
    pub detail: String,
}

impl FieldError {
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> FieldError {
        FieldError {
            pointer: pointer.into(),
            detail: detail.into(),
        }
    }
}

/// A problem as it is sent, RFC 9457.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemBody {
    /// Stable, `/problems/<code>`.
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    detail: String,
    code: &'static str,
    request_id: Uuid,
    /// What is wrong with the parts of the body.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
    /// With `sale-not-open`: when it opens, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    opens_at: Option<DateTime<Utc>>,
}

/// The problem inside a response that waits for its body.
#[derive(Clone)]
pub(crate) struct Unwritten(Arc<Problem>);

impl Problem {
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Problem {
        Problem(Box::new(Parts {
            code,
            status: None,
            detail: detail.into(),
            errors: Vec::new(),
            opens_at: None,
            headers: HeaderMap::new(),
            cause: None,
        }))
    }

    /// The body can be read but says something impossible, at these places.
    pub fn invalid_body(errors: Vec<FieldError>) -> Problem {
        let detail = match errors.as_slice() {
            [only] => only.detail.clone(),
            several => format!("{} things are wrong with the body", several.len()),
        };
        let mut problem = Problem::new(Code::InvalidBody, detail);
        problem.0.errors = errors;
        problem
    }

    /// Absent, or another's: the answer is the same.
    pub fn not_found(what: &'static str) -> Problem {
        Problem::new(Code::NotFound, format!("there is no such {what}"))
    }

    pub fn unauthorized(detail: &'static str) -> Problem {
        Problem::new(Code::Unauthorized, detail)
            .header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
    }

    /// The server cannot take it now; the same request may succeed in a moment.
    pub fn try_later(code: Code, detail: &'static str) -> Problem {
        Problem::new(code, detail).header(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_S))
    }

    /// What only the log may know.
    pub fn internal(cause: anyhow::Error) -> Problem {
        let mut problem =
            Problem::new(Code::Internal, "the error was logged under this request_id");
        problem.0.cause = Some(cause);
        problem
    }

    /// What the framework refused without a word of ours.
    pub(crate) fn of_status(status: StatusCode) -> Problem {
        let code = match status {
            StatusCode::NOT_FOUND => Code::NotFound,
            StatusCode::METHOD_NOT_ALLOWED => Code::MethodNotAllowed,
            StatusCode::PAYLOAD_TOO_LARGE => Code::BodyTooLarge,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Code::UnsupportedMediaType,
            status if status.is_server_error() => Code::Internal,
            _ => Code::InvalidRequest,
        };
        let mut problem = Problem::new(code, code.title());
        problem.0.status = Some(status);
        problem
    }

    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Problem {
        self.0.headers.insert(name, value);
        self
    }

    pub fn opens_at(mut self, opens_at: DateTime<Utc>) -> Problem {
        self.0.opens_at = Some(opens_at);
        self
    }

    pub fn code(&self) -> Code {
        self.0.code
    }

    #[cfg(test)]
    pub fn errors(&self) -> &[FieldError] {
        &self.0.errors
    }

    fn status(&self) -> StatusCode {
        self.0.status.unwrap_or(self.0.code.status())
    }

    /// The whole answer. Logs an internal cause; called once for each problem.
    fn write(&self, request_id: Uuid) -> Response {
        if let Some(cause) = &self.0.cause {
            tracing::error!(%request_id, "answering a request: {cause:#}");
        }
        let body = ProblemBody {
            kind: format!("/problems/{}", self.0.code.as_str()),
            title: self.0.code.title(),
            status: self.status().as_u16(),
            detail: self.0.detail.to_string(),
            code: self.0.code.as_str(),
            request_id,
            errors: self.0.errors.clone(),
            opens_at: self.0.opens_at,
        };
        let mut response = (self.status(), Json(body)).into_response();
        let problem_json = HeaderValue::from_static("application/problem+json");
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, problem_json);
        let no_store = HeaderValue::from_static("no-store");
        response
            .headers_mut()
            .insert(header::CACHE_CONTROL, no_store);
        for (name, value) in &self.0.headers {
            response.headers_mut().insert(name, value.clone());
        }
        response
    }
}

/// Gives a refused or failed response its body; keeps the headers that the framework set (`Allow`).
pub(crate) fn write_problem(mut response: Response, request_id: Uuid) -> Response {
    if let Some(Unwritten(problem)) = response.extensions_mut().remove::<Unwritten>() {
        return problem.write(request_id);
    }
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    let mut written = Problem::of_status(status).write(request_id);
    if let Some(allow) = response.headers_mut().remove(header::ALLOW) {
        written.headers_mut().insert(header::ALLOW, allow);
    }
    written
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(Unwritten(Arc::new(self)));
        response
    }
}

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Problem {
        if is_transient(&error) {
            return Problem::try_later(Code::Unavailable, "the database is away; try again");
        }
        Problem::internal(error.into())
    }
}

impl From<TillError> for Problem {
    fn from(error: TillError) -> Problem {
        match error {
            TillError::Overloaded => {
                Problem::try_later(Code::Overloaded, "too many payments wait; try again")
            }
            TillError::NotSeen => {
                Problem::try_later(Code::Unavailable, "the gateway does not answer; try again")
            }
            TillError::Unavailable => {
                Problem::try_later(Code::Unavailable, "the database is away; try again")
            }
        }
    }
}

impl From<FindError> for Problem {
    fn from(error: FindError) -> Problem {
        if error.is_transient() {
            return Problem::try_later(Code::Unavailable, "the database is away; try again");
        }
        Problem::internal(error.into())
    }
}

impl From<anyhow::Error> for Problem {
    fn from(error: anyhow::Error) -> Problem {
        let database_error = error
            .chain()
            .find_map(|cause| cause.downcast_ref::<sqlx::Error>());
        if database_error.is_some_and(is_transient) {
            return Problem::try_later(Code::Unavailable, "the database is away; try again");
        }
        Problem::internal(error)
    }
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;

    async fn sent(response: Response) -> (Response<()>, serde_json::Value) {
        let (parts, body) = write_problem(response, Uuid::nil()).into_parts();
        let bytes = to_bytes(body, 10_000).await.unwrap();
        (
            Response::from_parts(parts, ()),
            serde_json::from_slice(&bytes).unwrap(),
        )
    }

    #[tokio::test]
    async fn a_problem_says_where_it_lies() {
        let problem = Problem::invalid_body(vec![FieldError::new("/wishes/0", "unknown seat")]);
        let (response, body) = sent(problem.into_response()).await;
        assert_eq!(response.status(), 422);
        assert_eq!(
            response.headers()["content-type"],
            "application/problem+json"
        );
        assert_eq!(body["type"], "/problems/invalid-body");
        assert_eq!(body["errors"][0]["pointer"], "/wishes/0");
        assert_eq!(body["request_id"], Uuid::nil().to_string());
    }

    #[tokio::test]
    async fn an_internal_error_shows_nothing() {
        let problem = Problem::internal(anyhow::anyhow!("password is hunter2"));
        let (response, body) = sent(problem.into_response()).await;
        assert_eq!(response.status(), 500);
        assert!(!body.to_string().contains("hunter2"));
    }

    #[tokio::test]
    async fn what_the_framework_refused_keeps_its_allow_header() {
        let refused = (StatusCode::METHOD_NOT_ALLOWED, [("allow", "GET,HEAD")]).into_response();
        let (response, body) = sent(refused).await;
        assert_eq!(response.headers()["allow"], "GET,HEAD");
        assert_eq!(body["code"], "method-not-allowed");
    }
}
