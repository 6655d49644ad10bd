//! What gateways tell us: believed only when signed, stored once, and never taken at its word. A
//! callback that tells something new makes us look at the charge; what we see then counts.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use chrono::Utc;
use stampede_payments::gateway::About;
use stampede_shared::store::gateway_events::GatewayEvent;

use crate::{
    app::SharedApp,
    callbacks::{Due, Told, is_known},
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
    // A gateway may serve others with our kind of metadata, such as a second environment.
    if let Err(problem) = app.catalog.show(about.show_id).await {
        if problem.code() != Code::NotFound {
            return Err(problem);
        }
        metrics::counter!("stampede_callbacks_total", "result" => "not_ours").increment(1);
        return Ok(StatusCode::OK);
    }
    let told = Told {
        status: about.told,
        event: event(gateway.name(), callback.event_id, about),
    };
    let due = app.callbacks.store(told.clone()).await;
    let result = match due {
        Some(Due::Nothing) => "known",
        Some(Due::Look { .. }) => "news",
        // It will be told again.
        None => "unavailable",
    };
    metrics::counter!("stampede_callbacks_total", "result" => result).increment(1);
    match due {
        Some(Due::Nothing) => {}
        Some(Due::Look { after }) => apply(&app, told, after),
        None => {
            return Err(Problem::try_later(
                Code::Unavailable,
                "it could not be stored; tell it again",
            ));
        }
    }
    Ok(StatusCode::OK)
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
fn apply(app: &SharedApp, told: Told, after: Duration) {
    let app = Arc::clone(app);
    tokio::spawn(async move {
        let event = &told.event;
        if let Err(error) = look(&app, &told, after).await {
            tracing::warn!(show.id = %event.show_id, payment.id = %event.payment_id,
                "an event of the gateway waits for recovery: {error:#}");
        }
    });
}

async fn look(app: &SharedApp, told: &Told, after: Duration) -> anyhow::Result<()> {
    let (show_id, payment_id) = (told.event.show_id, told.event.payment_id);
    let mut seen = false;
    if !after.is_zero() {
        tokio::time::sleep(after).await;
        let payment = app.payments.find(show_id, payment_id).await?;
        seen = payment.is_some_and(|payment| is_known(told, &payment));
    }
    if !seen {
        let _place = app.drives.acquire().await?;
        seen = app.till.drive(show_id, payment_id).await?.is_some();
    }
    if seen {
        app.callbacks.applied(told.event.clone()).await;
    }
    Ok(())
}
