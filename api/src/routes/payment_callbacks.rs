//! What gateways tell us: believed only when signed, stored once, and never taken at its word. A
//! callback that tells something new makes us look at the charge; what we see then counts.

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use chrono::Utc;
use sqlx::PgPool;
use stampede_payments::gateway::About;
use stampede_shared::{
    domain::payment::{ChargeStatus, is_news},
    store::{
        gateway_events::{self, GatewayEvent},
        payments,
    },
};

use crate::{
    app::SharedApp,
    error::{Code, Problem},
    extract::{ClientAddress, Path},
};

/// Takes what a gateway tells about a charge.
///
/// 200 also for what was told before; 400 when the signature is not right.
#[utoipa::path(
    post, path = "/v1/payment-callbacks/{gateway}", tag = "payments",
    params(("gateway" = String, Path, description = "`stripe` or `simulated`: the one that is configured")),
    request_body(content = String, content_type = "application/json"),
    responses((status = 200, description = "Stored"))
)]
pub async fn receive_callback(
    State(app): State<SharedApp>,
    Path(name): Path<String>,
    address: ClientAddress,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, Problem> {
    let gateway = app.till.gateway().filter(|gateway| gateway.name() == name);
    let gateway = gateway.ok_or_else(|| Problem::not_found("gateway"))?;
    let header = |name: &str| headers.get(name)?.to_str().ok().map(str::to_owned);
    let callback = match gateway.check_callback(&header, &body, Utc::now()) {
        Ok(callback) => callback,
        Err(error) => {
            // Only who cannot sign is limited.
            app.rate_limits.public_read(address.0)?;
            metrics::counter!("stampede_callbacks_total", "result" => "refused").increment(1);
            return Err(Problem::new(Code::InvalidRequest, error.to_string()));
        }
    };
    let Some(about) = callback.about else {
        metrics::counter!("stampede_callbacks_total", "result" => "not_ours").increment(1);
        return Ok(StatusCode::OK);
    };
    let told = about.told;
    let event = event(gateway.name(), callback.event_id, about);
    let pool = app.database.pool.clone();
    let new = event.clone();
    // A gateway that hangs up must not leave a write half done.
    let stored = tokio::spawn(async move { store(&pool, &new, told).await });
    let is_new = stored
        .await
        .map_err(|error| Problem::internal(error.into()))??;
    let result = if is_new { "new" } else { "known" };
    metrics::counter!("stampede_callbacks_total", "result" => result).increment(1);
    if is_new {
        apply(&app, event);
    }
    Ok(StatusCode::OK)
}

/// Stores an event; returns whether the charge is to be looked at. Most events tell what our own calls
/// have brought about, and a look for each would double the load of a sale.
async fn store(
    pool: &PgPool,
    event: &GatewayEvent,
    told: Option<ChargeStatus>,
) -> sqlx::Result<bool> {
    let mut connection = pool.acquire().await?;
    let (show_id, ids) = (event.show_id, [event.payment_id]);
    let found = payments::find(&mut connection, show_id, &ids).await?;
    let is_known = found.first().zip(told).is_some_and(|(payment, told)| {
        payment.charge_id.as_ref() == Some(&event.charge_id) && !is_news(payment.state, told)
    });
    gateway_events::store(&mut connection, event, !is_known).await
}

fn event(gateway: &'static str, event_id: String, about: About) -> GatewayEvent {
    GatewayEvent {
        show_id: about.show_id,
        gateway: gateway.to_owned(),
        event_id,
        payment_id: about.payment_id,
        charge_id: about.gateway_id,
    }
}

/// Looks at the charge and drives its payment. What is not reached here, recovery does: the event stays
/// unapplied until its payment was found and looked at.
fn apply(app: &SharedApp, event: GatewayEvent) {
    let app = Arc::clone(app);
    tokio::spawn(async move {
        let Ok(_place) = app.drives.acquire().await else {
            return;
        };
        if let Ok(Some(_)) = app.till.drive(event.show_id, event.payment_id).await {
            let ids = [event.event_id];
            let pool = &app.database.pool;
            let done = gateway_events::applied(pool, event.show_id, &event.gateway, &ids).await;
            if let Err(error) = done {
                tracing::warn!(show.id = %event.show_id, %error, "an event was not marked applied");
            }
        }
    });
}
