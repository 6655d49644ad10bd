//! The table of URLs, and what answers those of charges.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, Query, Request, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode, header::AUTHORIZATION},
    middleware::{Next, from_fn_with_state, map_response},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use chrono::{DateTime, Utc};
use secrecy::ExposeSecret;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;
use subtle::ConstantTimeEq;
use uuid::Uuid;

use crate::{
    app::SharedApp,
    behaviour::Step,
    book::Done,
    charges::{Change, Charge, NewCharge},
    error::Refusal,
    ids::ChargeId,
    keys::{Fingerprint, Key},
    ledger::Page,
    method_routes, pages,
    view::ChargeView,
};

const BODY_MAX_BYTES: usize = 16 * 1024;
const KEY_MAX_BYTES: usize = 255;
const PAGE_MAX: usize = 500;
const PAGE_DEFAULT: usize = 100;

pub fn router(app: SharedApp) -> Router {
    let methods = Router::new()
        .route(
            "/v1/payment-methods",
            post(method_routes::create_payment_method).options(method_routes::preflight),
        )
        .layer(map_response(method_routes::for_any_origin));
    let buyers = Router::new()
        .route("/", get(pages::show_help))
        .route("/livez", get(|| async { "ok" }))
        .route("/steps/{charge}", get(pages::show_step))
        .route("/steps/{charge}/complete", post(pages::complete_step))
        .route("/steps/{charge}/fail", post(pages::fail_step));
    let client = Router::new()
        .route("/v1/charges", post(create_charge).get(list_charges))
        .route("/v1/charges/{charge}", get(get_charge))
        .route("/v1/charges/{charge}/capture", post(capture_charge))
        .route("/v1/charges/{charge}/void", post(void_charge))
        .route("/v1/charges/{charge}/refund", post(refund_charge))
        .route("/v1/cards", get(method_routes::list_cards))
        .route("/v1/cards/{number}", put(method_routes::put_card))
        .route_layer(from_fn_with_state(Arc::clone(&app), check_secret_key));
    methods
        .merge(buyers)
        .merge(client)
        .fallback(|| async { Refusal::UnknownUrl })
        .layer(DefaultBodyLimit::max(BODY_MAX_BYTES))
        .with_state(app)
}

/// Parses a body.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::Invalid(error.to_string()))
}

pub fn parse_charge_id(id: &str) -> Result<ChargeId, Refusal> {
    id.parse().map_err(|_| Refusal::UnknownCharge)
}

async fn check_secret_key(
    State(app): State<SharedApp>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let header = request.headers().get(AUTHORIZATION);
    let given = header.and_then(|header| header.as_bytes().strip_prefix(b"Bearer "));
    let right = app.secret_key.expose_secret().as_bytes();
    if !given.is_some_and(|given| bool::from(given.ct_eq(right))) {
        return Err(Refusal::Unauthorized);
    }
    Ok(next.run(request).await)
}

async fn create_charge(
    State(app): State<SharedApp>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let order: NewCharge = parse(&body)?;
    if let Some(mistake) = order.mistake() {
        return Err(Refusal::Invalid(mistake.to_owned()));
    }
    let call = serde_json::to_vec(&order).expect("an order has only text keys");
    let key = key(&headers, &call)?;
    let rule = app.book().rule_for_new(&order);
    let done = Arc::clone(&app)
        .answer(rule, move |book| book.authorize(&order, key, Utc::now()))
        .await?;
    Ok((StatusCode::CREATED, show(&app, &done.charge)).into_response())
}

async fn capture_charge(
    app: State<SharedApp>,
    id: Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    take_step(app, &id, &headers, Step::Capture, Change::Capture).await
}

async fn void_charge(
    app: State<SharedApp>,
    id: Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    take_step(app, &id, &headers, Step::Void, Change::Void).await
}

async fn refund_charge(
    app: State<SharedApp>,
    id: Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    take_step(app, &id, &headers, Step::Refund, Change::Refund).await
}

async fn take_step(
    State(app): State<SharedApp>,
    id: &str,
    headers: &HeaderMap,
    step: Step,
    change: Change,
) -> Result<Response, Refusal> {
    let id = parse_charge_id(id)?;
    let key = key(headers, format!("{step:?} {id}").as_bytes())?;
    let rule = app.book().rule_for(id, step);
    let Done { charge, .. } = Arc::clone(&app)
        .answer(rule, move |book| {
            book.change(id, change, Some(key), Utc::now())
        })
        .await?;
    Ok(show(&app, &charge))
}

async fn get_charge(
    State(app): State<SharedApp>,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    let charge = app.book().charge(parse_charge_id(&id)?)?;
    Ok(show(&app, &charge))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    payment_id: Option<Uuid>,
    since: Option<DateTime<Utc>>,
    after: Option<ChargeId>,
    limit: Option<usize>,
}

async fn list_charges(
    State(app): State<SharedApp>,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(filter) = filter.map_err(|error| Refusal::Invalid(error.body_text()))?;
    let limit = filter.limit.unwrap_or(PAGE_DEFAULT);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(Refusal::Invalid("limit is between 1 and 500".to_owned()));
    }
    let page = match filter.payment_id {
        Some(payment_id) => Page {
            charges: app.book().of_payment(payment_id, PAGE_MAX),
            next: None,
        },
        None => app.book().page(filter.since, filter.after, limit)?,
    };
    let charges = page.charges.iter();
    let charges: Vec<ChargeView> = charges
        .map(|charge| ChargeView::new(charge, &app.base_url))
        .collect();
    Ok(Json(json!({"charges": charges, "next": page.next})).into_response())
}

fn show(app: &SharedApp, charge: &Charge) -> Response {
    Json(ChargeView::new(charge, &app.base_url)).into_response()
}

/// The key of a call that says this.
fn key(headers: &HeaderMap, call: &[u8]) -> Result<Key, Refusal> {
    let header = headers.get("idempotency-key");
    let key = header.and_then(|header| header.to_str().ok());
    let key = key.filter(|key| (1..=KEY_MAX_BYTES).contains(&key.len()));
    Ok(Key {
        key: key.ok_or(Refusal::NoKey)?.into(),
        fingerprint: Fingerprint::of(call),
    })
}
