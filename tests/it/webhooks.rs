//! Webhooks out: what happens is told to whoever asked, signed, at least once, and never without its cause.

use std::{collections::BTreeSet, time::Duration};

use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::{
    harness::{
        Api, Arena, DECLINED_CARD, GOOD_CARD, Process, Receiver, Reply, Told, eventually, floor,
        paid_show, run, seated, send, show,
    },
    wishes::{hold_id, id, places, seats},
};

const LIMIT: Duration = Duration::from_secs(30);

/// A worker that does not wait for long: for work, for an answer, or between two tries.
const HASTY: [&str; 7] = [
    "--webhook-allow-private",
    "--job-interval-ms",
    "50",
    "--webhook-timeout-ms",
    "1000",
    "--webhook-retry-ms",
    "50",
];

/// An API that registers private addresses.
async fn api(arena: &Arena) -> (Process, Api) {
    arena.api(&["--webhook-allow-private"]).await
}

/// Registers a URL for these events; the endpoint with its secret.
async fn register(api: &Api, url: &str, event_types: &[&str]) -> Value {
    let body = json!({"url": url, "event_types": event_types});
    let made = api.operate(Method::POST, "/webhooks", Some(&body)).await;
    assert_eq!(made.header("cache-control"), Some("private, no-store"));
    made.expect(201)
}

fn secret(endpoint: &Value) -> &str {
    endpoint["secret"].as_str().unwrap()
}

/// The endpoint as it is listed.
async fn listed(api: &Api, endpoint: &Value) -> Value {
    let list = api.operate(Method::GET, "/webhooks", None).await;
    let list = list.expect(200);
    let all = list["webhooks"].as_array().unwrap();
    all.iter()
        .find(|it| it["id"] == endpoint["id"])
        .cloned()
        .expect("the endpoint is there")
}

/// The deliveries to it, newest first.
async fn deliveries(api: &Api, endpoint: &Value, query: &str) -> Vec<Value> {
    let path = format!("/webhooks/{}/deliveries{query}", id(endpoint));
    let page = api.operate(Method::GET, &path, None).await.expect(200);
    page["deliveries"].as_array().unwrap().clone()
}

/// Does something to an endpoint.
async fn command(api: &Api, endpoint: &Value, path: &str) -> crate::harness::Answer {
    let path = format!("/webhooks/{}/{path}", id(endpoint));
    api.operate(Method::POST, &path, None).await
}

async fn count(pool: &PgPool, statement: &'static str) -> i64 {
    sqlx::query_scalar(statement).fetch_one(pool).await.unwrap()
}

const EVENTS: &str = "select count(*) from outbox";

/// A show with a floor, open.
async fn open_floor(api: &Api) -> String {
    api.open_show(&show([floor("FLOOR", 500)])).await
}

/// Lets so many buyers hold a place each.
async fn hold_places(api: &Api, show: &str, buyers: usize) {
    let asking = (0..buyers).map(async |no| {
        let buyer = api.buyer(&format!("buyer-{no}"));
        let held = buyer.ask(show, json!([places("FLOOR", 1)])).await;
        assert_eq!(held["state"], "held", "{held}");
    });
    join_all(asking).await;
}

fn find<'a>(told: &'a [Told], event_type: &str) -> &'a Told {
    let mut found = told.iter().filter(|told| told.event_type() == event_type);
    let first = found.next().unwrap_or_else(|| panic!("no {event_type}"));
    assert!(found.next().is_none(), "{event_type} twice");
    first
}

#[test]
fn every_event_arrives_signed_and_numbered_in_its_order() {
    run(async |arena| {
        let gateway = arena.gateway(&[]).await;
        let receiver = Receiver::start().await;
        let (_api, api) = gateway.api(arena, &["--webhook-allow-private"]).await;
        let _worker = gateway.worker(arena, &HASTY).await;
        let mut hall = paid_show([seated("A", 1, 3)]);
        hall["refundable_until"] = json!("2099-01-01T00:00:00Z");
        let show = api.create_show(&hall).await;
        let endpoint = register(&api, &receiver.url, &["*"]).await;
        api.sale(&show, "open").await.expect(200);

        // Booked, and given back.
        let (ada, bob, cleo) = (api.buyer("ada"), api.buyer("bob"), api.buyer("cleo"));
        let (good, bad) = (
            gateway.method(GOOD_CARD).await,
            gateway.method(DECLINED_CARD).await,
        );
        let request = ada.ask(&show, json!([seats(&["A-1-1", "A-1-2"])])).await;
        let paid = ada.pay(&show, hold_id(&request), "key-00001", Some(&good));
        let paid = paid.await.expect(201);
        let booking = paid["booking"]["id"].as_str().unwrap();
        let path = format!("/v1/shows/{show}/bookings/{booking}/cancel");
        let cancel = ada.request(Method::POST, &path);
        let cancel = cancel.header("idempotency-key", "key-00002");
        send(cancel.json(&json!({}))).await.expect(200);
        // Rejected.
        let two = json!([seats(&["A-1-9", "A-1-3"])]);
        assert_eq!(
            cleo.submit(&show, &json!({"wishes": two})).await.status,
            422
        );
        let held = bob.ask(&show, json!([seats(&["A-1-3"])])).await;
        let lost = cleo.ask(&show, json!([seats(&["A-1-3"])])).await;
        // Declined, and never paid.
        let declined = bob.pay(&show, hold_id(&held), "key-00003", Some(&bad));
        declined.await.expect(402);
        sqlx::query("update holds set expires_at = now(), kept_until = now() where state = 'held'")
            .execute(&arena.pool)
            .await
            .unwrap();

        let told = receiver.told_at_least(9).await;
        assert!(told.iter().all(|told| told.is_signed_by(secret(&endpoint))));
        assert!(told.iter().all(|told| !told.is_signed_by("whsec_AAAA")));
        let sequences: BTreeSet<i64> = told.iter().map(Told::sequence).collect();
        assert_eq!(sequences, (1..=9).collect());
        assert_eq!(told.len(), 9, "each once");
        // In the order in which it happened, for each request.
        let of_ada: Vec<&str> = told
            .iter()
            .filter(|told| told.body["data"]["request_id"] == request["id"])
            .map(Told::event_type)
            .collect();
        let in_order = [
            "request.held",
            "booking.confirmed",
            "booking.cancelled",
            "payment.refunded",
        ];
        assert_eq!(of_ada, in_order);
        let of_bob: Vec<&str> = told
            .iter()
            .filter(|told| told.body["data"]["request_id"] == held["id"])
            .map(Told::event_type)
            .collect();
        assert_eq!(
            of_bob,
            ["request.held", "payment.failed", "request.expired"]
        );

        for call in &told {
            let data = &call.body["data"];
            assert_eq!(data["show_id"], *show);
            assert!(call.body["timestamp"].is_string());
            assert!(call.user_agent.starts_with("Stampede"));
        }
        let of_held = told.iter().find(|told| told.event_type() == "request.held");
        let data = &of_held.unwrap().body["data"];
        assert_eq!(data["hold_id"], request["hold"]["id"]);
        assert_eq!(data["seats"], request["hold"]["seats"]);
        assert_eq!(data["quantity"], 2);
        assert_eq!(data["buyer_id"], "ada");
        assert_eq!(data["total"], json!({"amount": 10_000, "currency": "EUR"}));
        let booked = &find(&told, "booking.confirmed").body["data"];
        assert_eq!(booked["booking_id"], *booking);
        assert_eq!(booked["payment_id"], paid["id"]);
        let rejected = &find(&told, "request.rejected").body["data"];
        assert_eq!(rejected["request_id"], lost["id"]);
        assert_eq!(rejected["reason"], lost["reason"]);
        let sale = &find(&told, "sale.state_changed").body["data"];
        assert_eq!(
            (&sale["from"], &sale["to"]),
            (&json!("scheduled"), &json!("open"))
        );
        assert!(sale["request_id"].is_null());
    });
}

#[test]
fn a_closed_sale_tells_whom_it_turned_away() {
    run(async |arena| {
        let receiver = Receiver::start().await;
        let (_api, api) = api(arena).await;
        let _worker = arena.worker(&HASTY).await;
        register(&api, &receiver.url, &["request.rejected"]).await;
        let show = open_floor(&api).await;
        api.sale(&show, "pause").await.expect(200);
        let wish = json!({"wishes": [places("FLOOR", 1)]});
        let accepted = api.buyer("ada").submit(&show, &wish).await.expect(202);
        api.sale(&show, "close").await.expect(200);
        let told = receiver.told_at_least(1).await;
        let data = &told[0].body["data"];
        assert_eq!(data["request_id"], accepted["id"]);
        assert_eq!(data["reason"], "sale_closed");
    });
}

#[test]
fn what_fails_is_tried_again_until_it_is_delivered_and_no_redirect_is_followed() {
    run(async |arena| {
        let (receiver, elsewhere) = (Receiver::start().await, Receiver::start().await);
        let (_api, api) = api(arena).await;
        let _worker = arena.worker(&HASTY).await;
        let endpoint = register(&api, &receiver.url, &["request.held"]).await;
        receiver.answers([
            Reply::Status(500),
            Reply::Redirect(elsewhere.url.clone()),
            Reply::Silence,
        ]);
        let show = open_floor(&api).await;
        hold_places(&api, &show, 1).await;
        let told = receiver.told_at_least(4).await;
        assert!(told.iter().all(|call| call.id == told[0].id), "{told:?}");
        assert!(told.iter().all(|call| call.body == told[0].body));
        eventually(LIMIT, async || {
            deliveries(&api, &endpoint, "?state=delivered").await.len() == 1
        })
        .await;
        let made = deliveries(&api, &endpoint, "").await;
        let [delivery] = made.as_slice() else {
            panic!("{made:?}");
        };
        assert_eq!(delivery["attempts"], 4);
        assert_eq!(delivery["last_status"], 204);
        assert_eq!(delivery["event_id"], *told[0].id);
        assert!(elsewhere.told().is_empty());
        assert!(listed(&api, &endpoint).await["failing_since"].is_null());
    });
}

#[test]
fn a_private_address_is_not_called_without_the_setting() {
    run(async |arena| {
        let receiver = Receiver::start().await;
        let (_api, api) = api(arena).await;
        let port = receiver.url.rsplit(':').next().unwrap();
        // A name is looked at when it is called.
        for host in ["127.0.0.1", "localhost"] {
            register(&api, &format!("http://{host}:{port}"), &["request.held"]).await;
        }
        let _worker = arena.worker(&["--job-interval-ms", "50"]).await;
        let show = open_floor(&api).await;
        hold_places(&api, &show, 1).await;
        let refused = "select count(*) from webhook_deliveries
            where state = 'pending' and last_error = 'webhooks may not go there'";
        eventually(LIMIT, async || count(&arena.pool, refused).await == 2).await;
        assert!(receiver.told().is_empty());
    });
}

#[test]
fn an_endpoint_that_is_gone_is_disabled_and_goes_on_when_it_is_enabled() {
    run(async |arena| {
        let receiver = Receiver::start().await;
        let (_api, api) = api(arena).await;
        let _worker = arena.worker(&HASTY).await;
        let endpoint = register(&api, &receiver.url, &["*"]).await;
        receiver.answers([Reply::Status(410)]);
        let show = open_floor(&api).await;
        eventually(LIMIT, async || {
            listed(&api, &endpoint).await["disabled_at"].is_string()
        })
        .await;
        let reason = &listed(&api, &endpoint).await["disabled_reason"];
        assert_eq!(reason, "it answered 410 Gone");
        // Nobody wants to know any more.
        hold_places(&api, &show, 1).await;
        assert_eq!(count(&arena.pool, EVENTS).await, 1);

        let enabled = command(&api, &endpoint, "enable").await.expect(200);
        assert!(enabled["disabled_at"].is_null());
        let told = receiver.told_at_least(2).await;
        assert_eq!(told[0].id, told[1].id);
        api.sale(&show, "pause").await.expect(200);
        assert_eq!(receiver.told_at_least(3).await[2].sequence(), 2);
    });
}

#[test]
fn an_endpoint_that_has_failed_for_three_days_is_disabled() {
    run(async |arena| {
        let receiver = Receiver::start().await;
        let (_api, api) = api(arena).await;
        let _worker = arena.worker(&HASTY).await;
        let endpoint = register(&api, &receiver.url, &["*"]).await;
        receiver.always(Reply::Status(500));
        open_floor(&api).await;
        eventually(LIMIT, async || {
            listed(&api, &endpoint).await["failing_since"].is_string()
        })
        .await;
        assert!(listed(&api, &endpoint).await["disabled_at"].is_null());
        sqlx::query(
            "update webhook_endpoints set failing_since = failing_since - interval '3 days'",
        )
        .execute(&arena.pool)
        .await
        .unwrap();
        eventually(LIMIT, async || {
            listed(&api, &endpoint).await["disabled_at"].is_string()
        })
        .await;
        let refused = &deliveries(&api, &endpoint, "").await[0]["last_error"];
        let expected = "it answered 500 Internal Server Error: said the receiver";
        assert_eq!(refused, expected);
    });
}

#[test]
fn a_delivery_can_be_made_again() {
    run(async |arena| {
        let receiver = Receiver::start().await;
        let (_api, api) = api(arena).await;
        let _worker = arena.worker(&HASTY).await;
        let endpoint = register(&api, &receiver.url, &["*"]).await;
        open_floor(&api).await;
        receiver.told_at_least(1).await;
        eventually(LIMIT, async || {
            deliveries(&api, &endpoint, "?state=delivered").await.len() == 1
        })
        .await;
        let made = deliveries(&api, &endpoint, "").await;
        let again = format!("deliveries/{}/redeliver", id(&made[0]));
        assert_eq!(command(&api, &endpoint, &again).await.status, 202);
        let told = receiver.told_at_least(2).await;
        assert_eq!(told[0].id, told[1].id);
        // Also one that was given up.
        eventually(LIMIT, async || {
            deliveries(&api, &endpoint, "?state=delivered").await.len() == 1
        })
        .await;
        let failed = "update webhook_deliveries set state = 'failed'";
        sqlx::query(failed).execute(&arena.pool).await.unwrap();
        assert_eq!(command(&api, &endpoint, &again).await.status, 202);
        receiver.told_at_least(3).await;

        let other = register(&api, &receiver.url, &["*"]).await;
        command(&api, &other, &again).await.expect(404);
        let absent = format!("deliveries/{}/redeliver", id(&endpoint));
        command(&api, &endpoint, &absent).await.expect(404);
        let path = format!("/webhooks/{}/deliveries?state=lost", id(&endpoint));
        api.operate(Method::GET, &path, None).await.expect(400);
    });
}

#[test]
fn a_worker_that_is_killed_takes_no_event_with_it() {
    run(async |arena| {
        let receiver = Receiver::start().await;
        let (_api, api) = api(arena).await;
        register(&api, &receiver.url, &["request.held"]).await;
        let show = open_floor(&api).await;
        // Between the commit and the dispatch: it looks for jobs when it starts, and then not for long.
        let mut worker = arena.worker(&["--job-interval-ms", "60000"]).await;
        hold_places(&api, &show, 1).await;
        worker.kill();
        assert_eq!(count(&arena.pool, EVENTS).await, 1);
        // In the middle of a call.
        receiver.answers([Reply::Silence]);
        let mut worker = arena.worker(&HASTY).await;
        receiver.told_at_least(1).await;
        worker.kill();
        let delivered = "select count(*) from webhook_deliveries where state = 'delivered'";
        assert_eq!(count(&arena.pool, delivered).await, 0);

        let _worker = arena.worker(&HASTY).await;
        let told = receiver.told_at_least(2).await;
        assert_eq!(told[0].id, told[1].id);
        eventually(LIMIT, async || count(&arena.pool, delivered).await == 1).await;
    });
}

#[test]
fn an_event_is_there_exactly_when_its_cause_has_committed() {
    run(async |arena| {
        let receiver = Receiver::start().await;
        let (_api, api) = api(arena).await;
        register(&api, &receiver.url, &["request.held"]).await;
        let show = open_floor(&api).await;
        // A turn that has written everything and does not come to its commit.
        let mut worker = arena
            .worker_failing("turn_before_commit=sleep(60000)", &HASTY)
            .await;
        let ada = api.buyer("ada");
        let wish = json!({"wishes": [places("FLOOR", 1)]});
        let accepted = ada.submit(&show, &wish).await.expect(202);
        let at_the_commit = "select count(*) from pg_stat_activity
            where datname = current_database() and state = 'idle in transaction'
                and query ilike '%update show_progress%'";
        eventually(LIMIT, async || count(&arena.pool, at_the_commit).await == 1).await;
        worker.kill();
        assert_eq!(count(&arena.pool, EVENTS).await, 0);

        let _worker = arena.worker(&HASTY).await;
        let held = ada.outcome(&show, id(&accepted)).await;
        let told = receiver.told_at_least(1).await;
        assert_eq!(told[0].sequence(), 1);
        assert_eq!(told[0].body["data"]["hold_id"], *hold_id(&held));
        assert_eq!(count(&arena.pool, EVENTS).await, 1);
    });
}

#[test]
fn two_workers_deliver_each_event_once() {
    run(async |arena| {
        let receiver = Receiver::start().await;
        let (_api, api) = api(arena).await;
        let _workers = [arena.worker(&HASTY).await, arena.worker(&HASTY).await];
        register(&api, &receiver.url, &["request.held"]).await;
        let show = open_floor(&api).await;
        hold_places(&api, &show, 100).await;
        receiver.told_at_least(100).await;
        let pending = "select count(*) from webhook_deliveries where state = 'pending'";
        eventually(LIMIT, async || count(&arena.pool, pending).await == 0).await;
        let told = receiver.told();
        let ids: BTreeSet<&str> = told.iter().map(|told| told.id.as_str()).collect();
        assert_eq!((told.len(), ids.len()), (100, 100));
        let sequences: BTreeSet<i64> = told.iter().map(Told::sequence).collect();
        assert_eq!(sequences, (1..=100).collect());
    });
}

#[test]
fn what_nobody_wants_is_not_written() {
    run(async |arena| {
        let receiver = Receiver::start().await;
        let (_api, api) = api(arena).await;
        let _worker = arena.worker(&HASTY).await;
        let show = open_floor(&api).await;
        hold_places(&api, &show, 2).await;
        assert_eq!(count(&arena.pool, EVENTS).await, 0);
        // Another type, another show, and one that was removed.
        register(&api, &receiver.url, &["payment.failed"]).await;
        let other = open_floor(&api).await;
        let body = json!({"url": receiver.url, "event_types": ["*"], "show_id": other});
        let of_other = api.operate(Method::POST, "/webhooks", Some(&body)).await;
        assert_eq!(of_other.expect(201)["show_id"], *other);
        let removed = register(&api, &receiver.url, &["*"]).await;
        let path = format!("/webhooks/{}", id(&removed));
        let gone = api.operate(Method::DELETE, &path, None).await;
        assert_eq!(gone.status, 204);
        api.operate(Method::DELETE, &path, None).await.expect(404);
        hold_places(&api, &show, 3).await;
        assert_eq!(count(&arena.pool, EVENTS).await, 0);
        api.sale(&other, "pause").await.expect(200);
        let told = receiver.told_at_least(1).await;
        assert_eq!(told[0].body["data"]["show_id"], *other);
        assert_eq!(count(&arena.pool, EVENTS).await, 1);
    });
}

#[test]
fn an_endpoint_that_hangs_keeps_no_other_waiting() {
    run(async |arena| {
        let (dead, alive) = (Receiver::start().await, Receiver::start().await);
        dead.always(Reply::Silence);
        let (_api, api) = api(arena).await;
        // It waits for as long as it does in production.
        let arguments = ["--webhook-allow-private", "--job-interval-ms", "50"];
        let worker = arena.worker(&arguments).await;
        for receiver in [&dead, &alive] {
            register(&api, &receiver.url, &["sale.state_changed"]).await;
        }
        // More shows than there are places for deliveries.
        let mut shows = Vec::new();
        for _ in 0..20 {
            shows.push(open_floor(&api).await);
        }
        dead.told_at_least(2).await;
        let begun = tokio::time::Instant::now();
        for show in &shows {
            api.sale(show, "pause").await.expect(200);
        }
        alive.told_at_least(40).await;
        let taken = begun.elapsed();
        assert!(taken < Duration::from_secs(8), "{taken:?}");
        drop(worker);
    });
}

#[test]
fn while_a_secret_is_replaced_both_sign() {
    run(async |arena| {
        let receiver = Receiver::start().await;
        let (_api, api) = api(arena).await;
        let endpoint = register(&api, &receiver.url, &["*"]).await;
        let list = api.operate(Method::GET, "/webhooks", None).await;
        assert!(!list.expect(200).to_string().contains("whsec_"));
        let new = command(&api, &endpoint, "rotate-secret").await.expect(200);
        let _worker = arena.worker(&HASTY).await;
        let show = open_floor(&api).await;
        let told = receiver.told_at_least(1).await;
        assert!(told[0].is_signed_by(secret(&endpoint)) && told[0].is_signed_by(secret(&new)));
        let over = "update webhook_endpoints set previous_until = now()";
        sqlx::query(over).execute(&arena.pool).await.unwrap();
        api.sale(&show, "pause").await.expect(200);
        let told = receiver.told_at_least(2).await;
        assert!(!told[1].is_signed_by(secret(&endpoint)) && told[1].is_signed_by(secret(&new)));
    });
}

#[test]
fn old_events_are_thrown_away_but_none_that_an_endpoint_waits_for() {
    run(async |arena| {
        let (receiver, broken) = (Receiver::start().await, Receiver::start().await);
        let (_api, api) = api(arena).await;
        let mut worker = arena.worker(&HASTY).await;
        let endpoint = register(&api, &receiver.url, &["*"]).await;
        // The first event is one that an endpoint waited for which is gone now.
        broken.always(Reply::Status(500));
        let gone = register(&api, &broken.url, &["*"]).await;
        let show = open_floor(&api).await;
        receiver.told_at_least(1).await;
        broken.told_at_least(1).await;
        let path = format!("/webhooks/{}", id(&gone));
        let removed = api.operate(Method::DELETE, &path, None).await;
        assert_eq!(removed.status, 204);
        // The second event goes to two endpoints, and one never takes it.
        let broken = Receiver::start().await;
        broken.always(Reply::Status(500));
        register(&api, &broken.url, &["*"]).await;
        api.sale(&show, "pause").await.expect(200);
        receiver.told_at_least(2).await;
        broken.told_at_least(1).await;
        eventually(LIMIT, async || {
            deliveries(&api, &endpoint, "?state=delivered").await.len() == 2
        })
        .await;
        worker.stop().await;
        for statement in [
            "update outbox set created_at = created_at - interval '31 days'",
            // Pruning is done once a day.
            "delete from apalis.jobs where job_type = 'prune'",
        ] {
            sqlx::query(statement).execute(&arena.pool).await.unwrap();
        }
        worker = arena.worker(&HASTY).await;
        eventually(LIMIT, async || count(&arena.pool, EVENTS).await == 1).await;
        let left = deliveries(&api, &endpoint, "").await;
        assert_eq!(left.len(), 1);
        assert_eq!(left[0]["sequence"], 2);

        // Nothing waits for an endpoint that has been disabled for as long as events are kept.
        for (days, left) in [(29, 1), (31, 0)] {
            worker.stop().await;
            let disable = "update webhook_endpoints
                set disabled_at = now() - make_interval(days => $1), disabled_reason = 'a test'
                where url = $2";
            let disable = sqlx::query(disable).bind(days).bind(&broken.url);
            assert_eq!(
                disable.execute(&arena.pool).await.unwrap().rows_affected(),
                1
            );
            sqlx::query("delete from apalis.jobs where job_type = 'prune'")
                .execute(&arena.pool)
                .await
                .unwrap();
            worker = arena.worker(&HASTY).await;
            eventually(LIMIT, async || {
                let pruned = "select count(*) from apalis.jobs
                    where job_type = 'prune' and status = 'Done'";
                count(&arena.pool, pruned).await == 1
            })
            .await;
            assert_eq!(count(&arena.pool, EVENTS).await, left, "after {days} days");
        }
    });
}
