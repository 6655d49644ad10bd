//! Waiting for payments to come to rest, and driving them without anyone waiting.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use stampede_shared::store::{
    payments::Payment,
    request_status::{Outcome, RequestStatus},
};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::{app::SharedApp, error::Problem};

/// Between two reads of a payment whose changes nobody tells of.
const PAUSE: Duration = Duration::from_millis(50);

/// What a drive begins with.
#[derive(Debug, Clone, Copy)]
pub enum Drive {
    /// The gateway has surely not heard of the payment.
    First,
    /// A look at the gateway.
    Look,
}

/// Drives a payment in a task that no client can drop, and returns it as it then is; `None` when it was
/// not driven. What is not reached here, recovery does.
pub fn drive(app: &SharedApp, payment: Payment, drive: Drive) -> JoinHandle<Option<Payment>> {
    let app = Arc::clone(app);
    tokio::spawn(async move {
        let _place = app.drives.acquire().await.ok()?;
        let (show_id, payment_id) = (payment.show_id, payment.payment_id);
        let driven = match drive {
            Drive::First => app.till.drive_first(payment).await.map(Some),
            Drive::Look => app.till.drive(show_id, payment_id).await,
        };
        driven.unwrap_or_else(|error| {
            tracing::warn!(show.id = %show_id, payment.id = %payment_id, %error,
                "a payment was not driven to its end; leaving it to recovery");
            None
        })
    })
}

/// The payment of a buyer, or a 404.
pub async fn find(
    app: &SharedApp,
    show_id: Uuid,
    payment_id: Uuid,
    buyer_id: &str,
) -> Result<Payment, Problem> {
    let found = app.payments.find(show_id, payment_id).await?;
    let own = found.filter(|payment| payment.buyer_id == buyer_id);
    own.ok_or_else(|| Problem::not_found("payment"))
}

/// Drives a payment, and waits until it has come to rest, or needs its buyer, or until `deadline`.
pub async fn driven(
    app: &SharedApp,
    payment: Payment,
    how: Drive,
    deadline: Instant,
) -> Result<Payment, Problem> {
    let driving = tokio::time::timeout_at(deadline.into(), drive(app, payment.clone(), how));
    let ended = app.until_draining(driving).await;
    let payment = match ended {
        Some(Ok(Ok(Some(payment)))) => payment,
        _ => payment,
    };
    settled(app, payment, deadline).await
}

/// Waits until a payment has come to rest, or needs its buyer, or until `deadline`.
pub async fn settled(
    app: &SharedApp,
    mut payment: Payment,
    deadline: Instant,
) -> Result<Payment, Problem> {
    let (show_id, payment_id) = (payment.show_id, payment.payment_id);
    let buyer_id = payment.buyer_id.clone();
    while is_moving(&payment) && Instant::now() < deadline {
        let status = app
            .outcomes
            .find(show_id, payment.request_id, &buyer_id)
            .await?;
        let status = status.ok_or_else(|| Problem::not_found("payment"))?;
        if shows(&status, &payment) {
            let waiting = app.outcomes.wait(show_id, &status, deadline);
            let Some(found) = app.until_draining(waiting).await else {
                break;
            };
            if found? == Some(status) && Instant::now() < deadline {
                break; // too many wait already
            }
        } else {
            // It has changed in between, or is not the last try: the request does not tell of it.
            tokio::time::sleep(PAUSE).await;
        }
        payment = find(app, show_id, payment_id, &buyer_id).await?;
    }
    Ok(payment)
}

/// Whether there is something left to wait for, other than the buyer.
pub fn is_moving(payment: &Payment) -> bool {
    payment.state.is_moving() && payment.next_action.is_none()
}

/// Whether the request shows the payment as it was read: then a change of it changes the request.
fn shows(status: &RequestStatus, payment: &Payment) -> bool {
    let Some(Outcome::Held(hold)) = status.decided.as_ref().map(|decided| &decided.outcome) else {
        return false;
    };
    hold.payment.as_ref().is_some_and(|last| {
        last.payment_id == payment.payment_id
            && last.state == payment.state
            && last.next_action == payment.next_action
    })
}
