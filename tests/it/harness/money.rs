//! What a show's money looks like at the gateway and in our rows, side by side.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;
use sqlx::PgPool;
use tokio::time::Instant;
use uuid::Uuid;

use super::gateway::Gateway;

/// How long the payments of a show may take to come to rest.
const REST_LIMIT: Duration = Duration::from_secs(30);

/// How often they are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A payment in our rows, with what it paid for.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct PaymentRow {
    pub payment_id: Uuid,
    pub state: String,
    pub reason: Option<String>,
    pub amount: i64,
    pub hold_state: String,
    pub booking_state: Option<String>,
}

/// The money of a show once nothing moves any more.
#[derive(Debug)]
pub struct Money {
    /// In the order in which they were begun.
    pub payments: Vec<PaymentRow>,
    /// The gateway's, the oldest first.
    pub charges: Vec<Value>,
    /// Taken and not given back, minor units.
    pub net: i64,
}

impl Money {
    /// Waits until every payment of the show is final and no charge is open, and sees that the two
    /// sides say the same: each confirmed booking has one net charge of its amount, and no other
    /// charge took money that it did not give back.
    #[track_caller]
    pub fn at_rest<'a>(
        pool: &'a PgPool,
        gateway: &'a Gateway,
        show: &'a str,
    ) -> impl Future<Output = Money> + 'a {
        let at = std::panic::Location::caller();
        async move {
            let deadline = Instant::now() + REST_LIMIT;
            loop {
                let money = Money::now(pool, gateway, show).await;
                let wrong = money.faults();
                if wrong.is_empty() {
                    return money;
                }
                assert!(
                    Instant::now() < deadline,
                    "{at}: the money does not come to rest: {wrong:#?}\n{money:#?}"
                );
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }

    async fn now(pool: &PgPool, gateway: &Gateway, show: &str) -> Money {
        let payments: Vec<PaymentRow> = sqlx::query_as(
            "select p.payment_id, p.state, p.reason, p.amount, h.state as hold_state,
                b.state as booking_state
            from payments p
            join holds h on h.show_id = p.show_id and h.hold_id = p.hold_id
            left join bookings b on b.show_id = p.show_id and b.payment_id = p.payment_id
            where p.show_id = $1
            order by p.created_at, p.payment_id",
        )
        .bind(show.parse::<Uuid>().expect("a show's id"))
        .fetch_all(pool)
        .await
        .expect("reading payments");
        let mut charges = gateway.charges().await;
        charges.retain(|charge| charge["metadata"]["show_id"] == show);
        let net = charges.iter().map(net_of).sum();
        Money {
            payments,
            charges,
            net,
        }
    }

    /// What is open, or not as it must be, one line each.
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut by_payment: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
        for charge in &self.charges {
            let payment = charge["metadata"]["payment_id"].as_str();
            let payment = payment.unwrap_or_default().to_owned();
            by_payment.entry(payment).or_default().push(charge);
            if ["pending", "authorized"]
                .iter()
                .any(|it| charge["status"] == *it)
            {
                faults.push(format!("an open charge: {charge}"));
            }
        }
        for payment in &self.payments {
            let charges = by_payment.remove(&payment.payment_id.to_string());
            let charges = charges.unwrap_or_default();
            let net: i64 = charges.iter().map(|charge| net_of(charge)).sum();
            let booked = payment.booking_state.as_deref() == Some("confirmed");
            let due = if booked { payment.amount } else { 0 };
            let paid = charges.iter().filter(|charge| net_of(charge) != 0).count();
            let state = payment.state.as_str();
            if net != due || paid != usize::from(booked && due > 0) {
                faults.push(format!("{net} was taken for {payment:?}"));
            }
            let ends = ["captured", "refunded", "declined", "voided", "failed"];
            if !ends.contains(&state) {
                faults.push(format!("a payment is not at its end: {payment:?}"));
            }
            if booked != (state == "captured")
                || payment.booking_state.as_deref() == Some("pending")
            {
                faults.push(format!("a booking unlike its payment: {payment:?}"));
            }
            let refunded = charges.iter().any(|charge| charge["status"] == "refunded");
            if refunded != (state == "refunded") && !charges.is_empty() {
                faults.push(format!("a refund that one side has not: {payment:?}"));
            }
        }
        for (payment, charges) in by_payment {
            faults.push(format!("charges without a payment {payment}: {charges:?}"));
        }
        faults
    }

    /// How many payments are in that state.
    pub fn count(&self, state: &str) -> usize {
        let states = self.payments.iter().map(|payment| &payment.state);
        states.filter(|it| *it == state).count()
    }

    /// The one payment.
    #[track_caller]
    pub fn only(&self) -> &PaymentRow {
        assert_eq!(self.payments.len(), 1, "{self:#?}");
        &self.payments[0]
    }
}

fn net_of(charge: &Value) -> i64 {
    let amount = |name: &str| charge[name].as_i64().expect("an amount");
    amount("captured") - amount("refunded")
}
