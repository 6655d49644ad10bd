//! What reconciliation looks at: what moved lately, however old it is, and no more than it can ask for.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use reqwest::Method;
use serde_json::json;
use stampede_payments::{
    gateway::{Callback, CallbackError, Charge, Gateway, GatewayError, LedgerPage, Order},
    reconcile::{Report, Scope, reconcile},
    simulated::Simulated,
};
use stampede_shared::store::{Database, DatabaseSettings};
use uuid::Uuid;

use crate::{
    harness::{Arena, run, send},
    payments::{Shop, shop},
};

/// The simulated gateway, whose single charges nobody can look at if it is hoarse.
#[derive(Debug)]
struct Odd {
    gateway: Simulated,
    hoarse: bool,
}

type Answer<'a, T> = BoxFuture<'a, Result<T, GatewayError>>;

impl Gateway for Odd {
    fn name(&self) -> &'static str {
        self.gateway.name()
    }

    fn keys_last(&self) -> Duration {
        self.gateway.keys_last()
    }

    fn authorize<'a>(&'a self, order: &'a Order) -> Answer<'a, Charge> {
        self.gateway.authorize(order)
    }

    fn find<'a>(&'a self, id: Uuid, charge_id: Option<&'a str>) -> Answer<'a, Option<Charge>> {
        if self.hoarse {
            return Box::pin(async { Err(GatewayError::Unclear("hm".to_owned())) });
        }
        self.gateway.find(id, charge_id)
    }

    fn capture<'a>(&'a self, id: Uuid, charge_id: &'a str) -> Answer<'a, Charge> {
        self.gateway.capture(id, charge_id)
    }

    fn void<'a>(&'a self, id: Uuid, charge_id: &'a str) -> Answer<'a, Charge> {
        self.gateway.void(id, charge_id)
    }

    fn refund<'a>(&'a self, id: Uuid, charge_id: &'a str) -> Answer<'a, Charge> {
        self.gateway.refund(id, charge_id)
    }

    fn check_callback(
        &self,
        header: &dyn Fn(&str) -> Option<String>,
        body: &[u8],
        now: DateTime<Utc>,
    ) -> Result<Callback, CallbackError> {
        self.gateway.check_callback(header, body, now)
    }

    fn ledger<'a>(
        &'a self,
        since: DateTime<Utc>,
        after: Option<&'a str>,
    ) -> Answer<'a, LedgerPage> {
        self.gateway.ledger(since, after)
    }
}

/// What is found that happened since then.
async fn found(arena: &Arena, shop: &Shop, since: DateTime<Utc>, hoarse: bool) -> Report {
    let settings = DatabaseSettings {
        database_url: arena.database_url(),
        listen_database_url: None,
    };
    let database = Database::connect(&settings, 2, "test").await.unwrap();
    let words = shop.gateway.settings();
    let [_, _, _, url, _, key, ..] = words.as_slice() else {
        panic!("{words:?}");
    };
    let timeout = Duration::from_secs(5);
    let gateway = Simulated::new(url, key.as_str().into(), Vec::new(), timeout).unwrap();
    let gateway = Odd { gateway, hoarse };
    let scope = Scope {
        since: Some(since),
        show_id: None,
        stuck: Duration::from_secs(30),
    };
    reconcile(&database, &gateway, &scope).await.unwrap()
}

/// Sells a seat, and cancels it: since when the refund is, which came after all charges.
async fn sell_and_refund(shop: &Shop) -> DateTime<Utc> {
    let ada = shop.api.buyer("ada");
    let paid = shop.buy(&ada, &["A-1-1"], "key-00001").await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let since = Utc::now();
    let booking = paid["booking"]["id"].as_str().unwrap();
    let path = format!("/shows/{}/bookings/{booking}/cancel", shop.show);
    let body = json!({"reason": "a test"});
    let request = shop.api.operator_request(Method::POST, &path).json(&body);
    let cancelled = send(request.header("idempotency-key", "cancel-1")).await;
    assert!(cancelled.status.is_success(), "{}", cancelled.body);
    let id = paid["id"].as_str().unwrap();
    shop.payment_in(&ada, id, &["refunded"]).await;
    since
}

/// Makes the only payment one of three days ago, its id as well.
async fn make_old(arena: &Arena) {
    let mut tx = arena.pool.begin().await.unwrap();
    for statement in [
        "update bookings set payment_id = null",
        "update payments
        set payment_id = '01000000-0000-7000-8000-000000000001',
            created_at = created_at - interval '3 days'",
        "update bookings set payment_id = '01000000-0000-7000-8000-000000000001'",
    ] {
        let done = sqlx::query(statement).execute(&mut *tx).await.unwrap();
        assert_eq!(done.rows_affected(), 1);
    }
    tx.commit().await.unwrap();
}

#[test]
fn a_late_refund_is_compared_with_a_charge_that_is_older_than_the_ledger() {
    run(async |arena| {
        let mut shop = shop(arena).await;
        let since = sell_and_refund(&shop).await;
        shop.worker.stop().await;
        for old in [false, true] {
            if old {
                make_old(arena).await;
            }
            let report = found(arena, &shop, since, false).await;
            assert_eq!((report.payments, report.charges), (1, 1), "{report:?}");
            assert_eq!(report.mismatches, 0, "{report:?}");
            assert_eq!(report.refunded["EUR"], 5_000);
            let later = found(arena, &shop, Utc::now(), false).await;
            assert_eq!((later.payments, later.charges), (0, 0), "{later:?}");
        }
        sqlx::query("update payments set charge_id = 'ch_none'")
            .execute(&arena.pool)
            .await
            .unwrap();
        assert!(!found(arena, &shop, since, false).await.is_clean());
    });
}

#[test]
fn a_charge_that_cannot_be_looked_at_does_not_end_the_run() {
    run(async |arena| {
        let mut shop = shop(arena).await;
        let since = sell_and_refund(&shop).await;
        let bob = shop.api.buyer("bob");
        shop.buy(&bob, &["A-1-2"], "key-00002").await;
        shop.worker.stop().await;
        let report = found(arena, &shop, since, true).await;
        assert_eq!((report.payments, report.unclear), (2, 1), "{report:?}");
        assert!(report.is_clean());
        // What does not fit and cannot be looked at again is no mismatch yet.
        sqlx::query("update payments set charge_id = charge_id || 'x'")
            .execute(&arena.pool)
            .await
            .unwrap();
        let report = found(arena, &shop, since, true).await;
        assert_eq!((report.mismatches, report.unclear), (0, 2), "{report:?}");
        assert!(
            report.to_string().contains("unclear               2"),
            "{report}"
        );
    });
}
