//! What `dev` says when it is up: what to open, and a booking request and a payment to send as they stand.

use anyhow::Context;
use chrono::{TimeDelta, Utc};
use jsonwebtoken::{EncodingKey, Header, encode};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::{Value, json};
use stampede_shared::{
    domain::seat_map::{Section, SectionKind},
    store::{Database, across_shows, shows},
};
use uuid::Uuid;

/// How long the buyer's token is good for.
const TOKEN_DAYS: i64 = 7;

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    exp: i64,
}

/// What to talk to.
pub struct Addresses {
    pub url: String,
    /// Of the simulated gateway, if it runs.
    pub gateway_url: Option<String>,
}

/// The text, for the newest show.
pub async fn text(
    database: &Database,
    addresses: &Addresses,
    operator_key: &SecretString,
    buyer_secret: &SecretString,
) -> anyhow::Result<String> {
    let url = &addresses.url;
    let operator_key = operator_key.expose_secret();
    let mut text = format!(
        "
  Stampede is up.

  Read and try the API   {url}/docs
  Operator's API key     {operator_key}
"
    );
    let newest = across_shows::newest_shows(&database.pool, None, 1).await;
    if let Some(&show_id) = newest.context("looking for shows")?.first()
        && let Some(show) = shows::find(&database.pool, show_id)
            .await
            .context("reading a show")?
        && let Some(section) = show.sections.first()
    {
        let token = token(buyer_secret)?;
        // A section's name may have an apostrophe, which would end the shell's quotes.
        let body = json!({ "wishes": [wish(section)] })
            .to_string()
            .replace('\'', r"'\''");
        // A key of its own each time: sent twice, the second is answered as a replay.
        let key = Uuid::now_v7();
        text += &format!(
            "
  Book two places for \"{}\" (the token is that of a buyer made up for you):

curl -i {url}/v1/shows/{show_id}/requests -H 'Authorization: Bearer {token}' \
-H 'Idempotency-Key: {key}' -H 'Content-Type: application/json' -d '{body}'
",
            show.name,
        );
        if let Some(gateway_url) = &addresses.gateway_url {
            let show_url = format!("{url}/v1/shows/{show_id}");
            text += &payment(&show_url, gateway_url, &token, (&key, &body));
        }
    }
    text += "\n  Ctrl-C stops it; the data is kept.\n";
    Ok(text)
}

/// Commands that pay for the hold of the request that is sent above: sent again, it is the same one.
fn payment(
    show_url: &str,
    gateway_url: &str,
    token: &str,
    (request_key, request): (&Uuid, &str),
) -> String {
    let key = Uuid::now_v7();
    format!(
        r#"
  Pay for them. No money moves: the gateway is simulated, and {gateway_url} says what its cards do.

show='{show_url}'; auth='Authorization: Bearer {token}'; json='Content-Type: application/json'
request=$(curl -s $show/requests -H "$auth" -H "$json" -H 'Idempotency-Key: {request_key}' -d '{request}' | grep -o '"id":"[^"]*' | cut -c7-)
hold=$(curl -s $show/requests/$request -H "$auth" -H 'Prefer: wait=10' | grep -o '"hold":{{"id":"[^"]*' | cut -c15-)
method=$(curl -s {gateway_url}/v1/payment-methods -H "$json" -d '{{"card_number":"4242424242424242"}}' | grep -o 'pm_[^"]*')
curl -i $show/holds/$hold/payments -H "$auth" -H "$json" -H 'Idempotency-Key: {key}' -d '{{"payment_method":"'$method'"}}'
"#
    )
}

fn wish(section: &Section) -> Value {
    match section.kind {
        SectionKind::Seated => json!({
            "kind": "best_available",
            "section": section.name,
            "quantity": 2,
            "adjacent": "required",
        }),
        SectionKind::GeneralAdmission => json!({
            "kind": "general_admission",
            "section": section.name,
            "quantity": 2,
        }),
    }
}

fn token(secret: &SecretString) -> anyhow::Result<String> {
    let buyer_id = format!("dev-{}", Uuid::now_v7());
    let exp = (Utc::now() + TimeDelta::days(TOKEN_DAYS)).timestamp();
    let key = EncodingKey::from_secret(secret.expose_secret().as_bytes());
    encode(
        &Header::default(),
        &Claims {
            sub: &buyer_id,
            exp,
        },
        &key,
    )
    .context("signing a token")
}
