//! The flood that pays: clean when all is well, whatever is killed, and a witness of money that is moved
//! behind our back.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use super::{Flood, find_all, forget_shows, rules_of};
use crate::{
    harness::{Arena, DECLINED_CARD, GOOD_CARD, Gateway, eventually, run, send},
    payments::shop,
};

/// How long the first payments of a flood may take.
const FIRST_LIMIT: Duration = Duration::from_secs(60);

/// Hangs end soon.
const HASTE: [&str; 6] = [
    "--payment-stuck-ms",
    "500",
    "--gateway-timeout-ms",
    "1000",
    "--payment-fence-seconds",
    "5",
];

/// What a flood is started with to pay at the gateway, and to read its ledger.
fn paying_at(gateway: &Gateway) -> Vec<String> {
    let settings = gateway.settings();
    let value = |name: &str| {
        let at = settings.iter().position(|it| it == name);
        settings[at.expect("a setting of the gateway") + 1].clone()
    };
    ["--gateway-url", "--gateway-key"]
        .into_iter()
        .flat_map(|name| [name.to_owned(), value(name)])
        .collect()
}

fn number(figures: &Value, name: &str) -> u64 {
    let found = figures["payments"][name].as_u64();
    found.unwrap_or_else(|| panic!("{name}: {figures:#}"))
}

#[test]
fn a_flood_that_pays_ends_with_every_cent_where_it_belongs() {
    run(async |arena| {
        let gateway = arena.gateway(&[]).await;
        let (_api_process, api) = gateway.api(arena, &HASTE).await;
        let worker = [&HASTE[..], &["--job-interval-ms", "100"]].concat();
        let _workers = [
            gateway.worker(arena, &worker).await,
            gateway.worker(arena, &worker).await,
        ];
        let paying = paying_at(&gateway);
        let mut arguments: Vec<&str> = paying.iter().map(String::as_str).collect();
        arguments.extend([
            "--requests",
            "600",
            "--rate",
            "150",
            "--arrivals",
            "poisson",
        ]);
        arguments.extend(["--pay-declines", "0.2", "--pay-hangs", "0.05"]);
        arguments.extend(["--pay-abandons", "0.1", "--pay-odd", "0.2"]);
        let figures = Flood::start(arena, &api.url, &arguments).end_clean().await;
        let count = |name| number(&figures, name);
        for none in ["mismatches", "unresolved", "refunded"] {
            assert_eq!(count(none), 0, "{none}: {figures:#}");
        }
        // Who went away in the middle may have paid.
        let confirmed = figures["confirmed"].as_u64().unwrap();
        assert!(count("captured") >= confirmed.max(50), "{figures:#}");
        for some in ["declined", "waiting", "stuck"] {
            assert!(count(some) > 0, "{some}: {figures:#}");
        }
        assert!(figures["payments"]["paid_per_s"].as_f64() > Some(0.0));
    });
}

#[test]
fn a_flood_that_pays_comes_out_clean_while_everything_is_killed() {
    run(async |arena| {
        let flood = Flood::start_with_its_server(
            arena,
            &[
                "--requests",
                "300",
                "--rate",
                "60",
                "--arrivals",
                "constant",
                "--kill-every",
                "0.7",
                "--pay-hangs",
                "0.05",
                "--pay-odd",
                "0.1",
            ],
        );
        let figures = flood.end_clean().await;
        let count = |name| number(&figures, name);
        assert_eq!((count("mismatches"), count("unresolved")), (0, 0));
        assert!(
            count("captured") > 50 && count("declined") > 0,
            "{figures:#}"
        );
        assert!(
            figures["retries"]
                .as_object()
                .is_some_and(|it| !it.is_empty())
        );
    });
}

#[test]
fn a_flood_tells_of_money_that_moves_behind_our_back() {
    run(async |arena| {
        let gateway = arena.gateway(&[]).await;
        // Not at the address that the callbacks go to, so that nobody tells it.
        let settings = gateway.settings();
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        let (_api_process, api) = arena.api(&settings).await;
        let _worker = arena.worker(&settings).await;
        let paying = paying_at(&gateway);
        let mut arguments: Vec<&str> = paying.iter().map(String::as_str).collect();
        arguments.extend([
            "--requests",
            "300",
            "--rate",
            "30",
            "--arrivals",
            "constant",
        ]);
        arguments.extend(["--pay-hangs", "0", "--pay-abandons", "0"]);
        let mut flood = Flood::start(arena, &api.url, &arguments);

        let [refunded, robbed] = first_captured(arena, &mut flood).await;
        gateway.meddle(&refunded.charge, "refund").await;
        let forged = forge_charge(&gateway, refunded.show_id).await;
        sqlx::query(
            "update bookings set state = 'cancelled', cancelled_at = now(),
                cancelled_by = 'operator', cancel_reason = 'sabotage' where payment_id = $1",
        )
        .bind(robbed.payment_id)
        .execute(&arena.pool)
        .await
        .unwrap();

        let (code, figures) = flood.end().await;
        assert_eq!(code, 1);
        assert!(number(&figures, "mismatches") >= 3, "{figures}");
        let mismatched = figures["payments"]["mismatched"].to_string();
        for found in [&refunded.charge, &forged, &robbed.payment_id.to_string()] {
            assert!(mismatched.contains(found), "{found}: {mismatched}");
        }
        let rules = rules_of(figures["violations"].as_array().unwrap(), |it| &it["rule"]);
        for rule in [
            "paid_is_charged_once",
            "no_charge_without_booking",
            "paid_is_booked",
            "payments_equal_bookings",
            "bookings_equal_confirmed_holds",
            "ends_equal_rows",
        ] {
            assert!(rules.contains(&json!(rule)), "{rule}: {rules:?}");
        }
        forget_shows(&arena.pool).await;
    });
}

/// A payment whose money is taken.
#[derive(sqlx::FromRow)]
struct Captured {
    show_id: Uuid,
    payment_id: Uuid,
    charge: String,
}

/// The first two of a flood.
async fn first_captured(arena: &Arena, flood: &mut Flood) -> [Captured; 2] {
    eventually(FIRST_LIMIT, async || captured(&arena.pool).await.len() == 2).await;
    assert!(
        flood.goes_on().await,
        "the flood is over before the sabotage"
    );
    let captured = captured(&arena.pool).await;
    captured.try_into().ok().expect("two")
}

async fn captured(pool: &PgPool) -> Vec<Captured> {
    let statement = "select show_id, payment_id, charge_id as charge from payments
        where state = 'captured' order by payment_id limit 2";
    sqlx::query_as(statement).fetch_all(pool).await.unwrap()
}

/// Takes money at the gateway in the name of a show, for a payment that there is not.
async fn forge_charge(gateway: &Gateway, show_id: Uuid) -> String {
    let order = json!({
        "amount": 4_200, "currency": "EUR", "payment_method": gateway.method(GOOD_CARD).await,
        "metadata": {"show_id": show_id, "payment_id": Uuid::now_v7()},
    });
    let request = gateway.request(Method::POST, "/v1/charges").json(&order);
    let made = send(request.header("idempotency-key", "forged")).await;
    let made = made.expect(201);
    let charge = made["id"].as_str().expect("a charge has an id").to_owned();
    gateway.meddle(&charge, "capture").await;
    charge
}

/// As [`super::SABOTAGE`], in a show where alice has paid, after a card that was declined, bob's booking
/// was cancelled and refunded, and carol has only a hold.
const SABOTAGE: [(&str, &str); 13] = [
    (
        "bookings_equal_confirmed_holds",
        "update bookings set state = 'cancelled', cancelled_at = now(), cancelled_by = 'buyer',
            cancel_reason = 'sabotage' where state = 'confirmed'",
    ),
    (
        "bookings_equal_confirmed_holds",
        "update bookings set state = 'confirmed', cancelled_at = null, cancelled_by = null,
            cancel_reason = null where state = 'cancelled'",
    ),
    (
        "bookings_equal_confirmed_holds",
        "update bookings set hold_id = (select hold_id from holds where state = 'held')
        where state = 'cancelled'",
    ),
    (
        "bookings_equal_confirmed_holds",
        "alter table bookings drop constraint bookings_once;
        update bookings set hold_id = (select hold_id from holds where state = 'confirmed')",
    ),
    (
        "payments_equal_bookings",
        "update payments set state = 'refunded' where state = 'captured'",
    ),
    (
        "payments_equal_bookings",
        "update bookings set state = 'pending' where state = 'confirmed'",
    ),
    (
        "payments_equal_bookings",
        "update bookings set payment_id = null where state = 'confirmed'",
    ),
    (
        "payments_equal_bookings",
        "drop index payments_once;
        update payments set state = 'captured' where state = 'declined'",
    ),
    (
        "payments_equal_bookings",
        "update payments set hold_id = (select hold_id from holds where state = 'held')
        where state = 'captured'",
    ),
    (
        "payments_equal_prices",
        "update payments set amount = amount - 1 where state = 'captured'",
    ),
    (
        "payments_equal_prices",
        "update payments set gateway = 'none', charge_id = null where state = 'captured'",
    ),
    (
        "no_hold_paid_twice",
        "drop index payments_once;
        update payments set state = 'created', recover_at = now() where state = 'declined'",
    ),
    (
        "no_payment_forgotten",
        "alter table payments drop constraint payments_recovered_until_final;
        update payments set state = 'refunding' where state = 'refunded'",
    ),
];

#[test]
fn the_checker_names_every_kind_of_breach_of_payments() {
    run(async |arena| {
        let shop = shop(arena).await;
        let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| shop.api.buyer(name));
        let bad = shop.gateway.method(DECLINED_CARD).await;
        let good = shop.gateway.method(GOOD_CARD).await;
        let hold = shop.hold_of(&alice, &["A-1-1"]).await;
        shop.pay(&alice, &hold, "key-00001", &bad).await.expect(402);
        shop.pay(&alice, &hold, "key-00002", &good)
            .await
            .expect(201);
        let hold = shop.hold_of(&bob, &["A-1-2"]).await;
        let paid = shop.pay(&bob, &hold, "key-00001", &good).await.expect(201);
        let path = format!(
            "/shows/{}/bookings/{}/cancel",
            shop.show,
            paid["booking"]["id"].as_str().unwrap()
        );
        let cancel = shop.api.operator_request(Method::POST, &path);
        let cancel = cancel.header("idempotency-key", "cancel-00001");
        send(cancel.json(&json!({"reason": "rain"})))
            .await
            .expect(200);
        let payment = paid["id"].as_str().unwrap();
        shop.payment_in(&bob, payment, &["refunded"]).await;
        shop.hold_of(&carol, &["A-1-3"]).await;
        find_all(arena, shop.show.parse().unwrap(), &SABOTAGE).await;
    });
}
