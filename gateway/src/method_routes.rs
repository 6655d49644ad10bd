//! What answers the URLs of payment methods and cards.

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::json;

use crate::{app::SharedApp, cards::Known, error::Refusal, routes::parse};

/// Not `Debug`: the number is not for logs.
#[derive(Deserialize)]
struct NewMethod {
    card_number: String,
}

/// For buyers' browsers, so without the secret key.
pub async fn create_payment_method(
    State(app): State<SharedApp>,
    body: Bytes,
) -> Result<Response, Refusal> {
    let method: NewMethod = parse(&body)?;
    let card = app.cards().card(&method.card_number)?;
    let id = app.book().add_method(card)?;
    Ok((StatusCode::CREATED, Json(json!({"id": id}))).into_response())
}

pub async fn preflight() -> impl IntoResponse {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "POST"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "content-type"),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ];
    (StatusCode::NO_CONTENT, headers)
}

/// Pages of any origin may read the answer.
pub async fn for_any_origin(mut response: Response) -> Response {
    response.headers_mut().insert(
        header::ACCESS_CONTROL_ALLOW_ORIGIN,
        HeaderValue::from_static("*"),
    );
    response
}

pub async fn list_cards(State(app): State<SharedApp>) -> impl IntoResponse {
    let cards: Vec<Known> = app.cards().all().cloned().collect();
    Json(json!({"cards": cards}))
}

pub async fn put_card(
    State(app): State<SharedApp>,
    Path(number): Path<String>,
    body: Bytes,
) -> Result<Json<Known>, Refusal> {
    let behaviour = parse(&body)?;
    let known = app.cards().tell(number, behaviour)?;
    Ok(Json(known))
}
