//! Processes that die while money is on its way: before and after every call to the gateway and every
//! commit, and while the gateway hangs. Whoever is left brings the payment to its end, with or without
//! its buyer: one net charge for a booking, none without.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use futures::{StreamExt, future::join_all, stream};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    harness::{Answer, Api, Arena, Buyer, Gateway, Money, eventually, run, send, try_send},
    payments::paid_hall,
};

/// What the buyer was doing when the process died.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Story {
    Pays,
    IsDeclined,
    /// The gateway says yes when the seats are gone.
    IsLate,
    Cancels,
}

/// What has become of it in the end.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    Booked,
    /// The hold is as it was, nobody has heard of a payment.
    NeverBegun,
    Declined,
    /// The reservation is let go, the hold has expired.
    NotCharged,
    Refunded,
}

/// The windows of each story.
const PAYS: [&str; 10] = [
    "open_before_commit",
    "open_after_commit",
    "before_authorize",
    "after_authorize",
    "pin_before_commit",
    "pin_after_commit",
    "before_capture",
    "after_capture",
    "captured_before_commit",
    "captured_after_commit",
];
const IS_DECLINED: [&str; 4] = [
    "before_authorize",
    "after_authorize",
    "declined_before_commit",
    "declined_after_commit",
];
const IS_LATE: [&str; 7] = [
    "after_authorize",
    "lost_before_commit",
    "lost_after_commit",
    "before_void",
    "after_void",
    "voided_before_commit",
    "voided_after_commit",
];
const CANCELS: [&str; 6] = [
    "cancel_before_commit",
    "cancel_after_commit",
    "before_refund",
    "after_refund",
    "refunded_before_commit",
    "refunded_after_commit",
];
const SHOW_IS_CANCELLED: [&str; 2] = ["cancel_show_before_commit", "cancel_show_after_commit"];

/// How it ends, whether or not the buyer returns.
fn end_of(story: Story, point: &str, returns: bool) -> End {
    match (story, point, returns) {
        // What was not committed has not been.
        (Story::Pays, "open_before_commit", false) => End::NeverBegun,
        (Story::Cancels, "cancel_before_commit", false) => End::Booked,
        (Story::Pays, ..) => End::Booked,
        (Story::IsDeclined, ..) => End::Declined,
        (Story::IsLate, ..) => End::NotCharged,
        (Story::Cancels, ..) => End::Refunded,
    }
}

const KEY: &str = "key-of-the-payment";
const CANCEL_KEY: &str = "key-of-the-cancellation";

/// How many processes are started at once.
const AT_ONCE: usize = 7;

/// Looks at a payment soon, whoever wrote it.
const SOON: [&str; 4] = [
    "--payment-stuck-ms",
    "300",
    "--payment-time-min-seconds",
    "0",
];

/// A worker that recovers at once, and one that decides requests and recovers nothing.
const RECOVERS: [&str; 6] = [
    "--payment-stuck-ms",
    "100",
    "--job-interval-ms",
    "50",
    "--gateway-timeout-ms",
    "1000",
];
const ONLY_DECIDES: [&str; 2] = ["--job-interval-ms", "60000"];

/// How long it may take after a restart until a payment has its end.
const RESOLVED_LIMIT: Duration = Duration::from_secs(15);

/// Longer than the hold of a late buyer, and the fence.
const LATE_HOLD_SECONDS: u32 = 3;
const LATE_MS: u32 = 3_500;

/// Something that was left in the middle.
struct Left {
    story: Story,
    at: String,
    returns: bool,
    end: End,
    show: String,
    hold: String,
    request: String,
    method: String,
    booking: Option<String>,
}

impl Left {
    /// The request of a buyer who is in the middle of a story. It may well have no answer.
    fn call(&self, buyer: &Buyer) -> reqwest::RequestBuilder {
        match &self.booking {
            Some(booking) => {
                let path = format!("/v1/shows/{}/bookings/{booking}/cancel", self.show);
                let request = buyer.request(Method::POST, &path);
                request
                    .header("idempotency-key", CANCEL_KEY)
                    .json(&json!({}))
            }
            None => buyer.payment(&self.show, &self.hold, KEY, Some(&self.method)),
        }
    }
}

/// A hall for a story.
fn hall_of(story: Story) -> Value {
    let mut hall = paid_hall();
    hall["refundable_until"] = json!("2099-01-01T00:00:00Z");
    if story == Story::IsLate {
        hall["hold_seconds"] = LATE_HOLD_SECONDS.into();
    }
    hall
}

/// A card for a story. Who returns may have it easier because callbacks come; else nothing helps.
async fn card_of(gateway: &Gateway, story: Story, returns: bool, mut answers: Value) -> String {
    let card = format!("41110000000000{}{}", story as u8, u8::from(returns));
    let authorize = match story {
        Story::IsDeclined => "decline",
        _ => "accept",
    };
    if story == Story::IsLate {
        answers["authorize"] = json!({"how": "slow", "ms": LATE_MS});
    }
    let callbacks = if returns { "once" } else { "never" };
    let behaviour = json!({"authorize": authorize, "answers": answers, "callbacks": [callbacks]});
    gateway.card_that(&card, behaviour).await
}

/// Brings ada to where her story begins: a hold, or for a cancellation a booking.
async fn begin(
    gateway: &Gateway,
    api: &Api,
    (story, returns, at): (Story, bool, &str),
    answers: Value,
) -> Left {
    let ada = api.buyer("ada");
    let method = card_of(gateway, story, returns, answers).await;
    let show = api.open_show(&hall_of(story)).await;
    let wishes = json!([{"kind": "seats", "seats": ["A-1-1"]}]);
    let held = ada.ask(&show, wishes).await;
    assert_eq!(held["state"], "held", "{held}");
    let id = |value: &Value| value["id"].as_str().unwrap().to_owned();
    let mut left = Left {
        story,
        at: at.to_owned(),
        returns,
        end: end_of(story, at, returns),
        hold: id(&held["hold"]),
        request: id(&held),
        show,
        method,
        booking: None,
    };
    if story == Story::Cancels {
        let paid = send(left.call(&ada)).await.expect(201);
        left.booking = Some(id(&paid["booking"]));
    }
    left
}

/// Lets a process die at a point of a story.
async fn crash(arena: &Arena, gateway: &Gateway, case: (Story, bool, &str)) -> Left {
    let failpoints = format!("{}=return", case.2);
    let settings = gateway.settings();
    let mut arguments: Vec<&str> = settings.iter().map(String::as_str).collect();
    arguments.extend(SOON);
    arguments.extend(["--payment-fence-seconds", "1"]);
    let (mut process, api) = arena
        .api_failing_on("127.0.0.1:0", &failpoints, &arguments)
        .await;
    let left = begin(gateway, &api, case, json!({})).await;
    let answer = try_send(left.call(&api.buyer("ada"))).await;
    assert!(answer.is_err(), "{case:?}: an answer: {answer:?}");
    process.crash().await;
    left
}

/// What the buyer is told who calls again.
fn see_answer(left: &Left, answer: Answer) {
    let name = format!("{:?} at {}", left.story, left.at);
    // The call is known unless it was lost with its transaction.
    let lost = ["open_before_commit", "cancel_before_commit"];
    let told = (200..300).contains(&answer.status.as_u16());
    if told {
        let replayed = answer.header("idempotency-replayed") == Some("true");
        assert_eq!(replayed, !lost.contains(&left.at.as_str()), "{name}");
    }
    let (status, body) = (answer.status.as_u16(), answer.body);
    match left.end {
        End::Booked => {
            assert_eq!(status, 201, "{name}: {body}");
            assert_eq!(body["state"], "captured", "{name}");
            assert_eq!(body["booking"]["state"], "confirmed", "{name}");
        }
        End::Declined => {
            assert_eq!(status, 402, "{name}: {body}");
            assert_eq!(body["code"], "payment-declined", "{name}");
        }
        End::NotCharged => {
            assert_eq!(status, 410, "{name}: {body}");
            assert_eq!(body["code"], "hold-expired", "{name}");
            let detail = body["detail"].as_str().unwrap();
            assert!(detail.contains("nothing"), "{name}: {detail}");
        }
        End::Refunded => {
            assert_eq!(status, 200, "{name}: {body}");
            assert_eq!(body["state"], "cancelled", "{name}");
            let money = body["payment"]["money"].as_str().unwrap();
            assert!(["refunding", "refunded"].contains(&money), "{name}: {body}");
        }
        End::NeverBegun => panic!("{name}: a payment that nobody asked for: {body}"),
    }
}

/// What is in the rows and at the gateway when all is over, and what the buyer sees.
async fn see_end(arena: &Arena, gateway: &Gateway, api: &Api, left: &Left) {
    let name = format!("{:?} at {}, returns: {}", left.story, left.at, left.returns);
    let money = Money::at_rest(&arena.pool, gateway, &left.show).await;
    let (payment, booking, hold, net, request) = match left.end {
        End::Booked => (
            "captured",
            Some("confirmed"),
            "confirmed",
            5_000,
            "confirmed",
        ),
        End::NeverBegun => {
            assert!(money.payments.is_empty(), "{name}: {money:?}");
            assert!(money.charges.is_empty(), "{name}: {money:?}");
            return;
        }
        End::Declined => ("declined", None, "held", 0, "held"),
        End::NotCharged => ("voided", None, "expired", 0, "expired"),
        End::Refunded => ("refunded", Some("cancelled"), "cancelled", 0, "cancelled"),
    };
    let row = money.only();
    assert_eq!(row.state, payment, "{name}: {money:?}");
    assert_eq!(row.booking_state.as_deref(), booking, "{name}: {money:?}");
    assert_eq!(row.hold_state, hold, "{name}: {money:?}");
    assert_eq!(money.net, net, "{name}: {money:?}");
    assert_eq!(money.charges.len(), 1, "{name}: {money:?}");
    let seen = api.buyer("ada").poll(&left.show, &left.request, 0).await;
    assert_eq!(seen.expect(200)["state"], request, "{name}");
}

/// Starts what recovers, while those who return call again; then looks at every end.
async fn recover(arena: &Arena, gateway: &Gateway, all: &[Left]) {
    let (_process, api) = gateway.api(arena, &SOON).await;
    let began = Instant::now();
    let ada = api.buyer("ada");
    let again = all.iter().filter(|left| left.returns).map(async |left| {
        let answer = send(left.call(&ada)).await;
        see_answer(left, answer);
    });
    let worker = gateway.worker(arena, &RECOVERS);
    let (_, _worker) = tokio::join!(join_all(again), worker);
    for left in all {
        see_end(arena, gateway, &api, left).await;
    }
    let took = began.elapsed();
    assert!(took < RESOLVED_LIMIT, "resolved after {took:?} only");
}

/// Dies in each of the windows, once for a buyer who calls again and once for one who does not.
fn survive(story: Story, points: &'static [&'static str]) {
    run(async |arena| {
        let gateway = arena.gateway(&[]).await;
        let turns = gateway.worker(arena, &ONLY_DECIDES).await;
        let cases = points.iter().flat_map(|point| {
            [true, false].map(|returns| crash(arena, &gateway, (story, returns, *point)))
        });
        let left: Vec<Left> = stream::iter(cases)
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        drop(turns);
        recover(arena, &gateway, &left).await;
    });
}

#[test]
fn a_payment_comes_to_its_booking_wherever_the_process_died() {
    survive(Story::Pays, &PAYS);
}

#[test]
fn a_decline_is_one_wherever_the_process_died() {
    survive(Story::IsDeclined, &IS_DECLINED);
}

#[test]
fn what_came_too_late_is_let_go_wherever_the_process_died() {
    survive(Story::IsLate, &IS_LATE);
}

#[test]
fn a_cancellation_gives_the_money_back_once_wherever_the_process_died() {
    survive(Story::Cancels, &CANCELS);
}

/// A place where the gateway hangs, and how our row and its charge then stand.
type Hanging = (
    &'static str,
    &'static str,
    Story,
    &'static str,
    Option<&'static str>,
);

const HANGING: [Hanging; 8] = [
    ("authorize", "hang_before", Story::Pays, "created", None),
    (
        "authorize",
        "hang_after",
        Story::Pays,
        "created",
        Some("authorized"),
    ),
    (
        "capture",
        "hang_before",
        Story::Pays,
        "capturing",
        Some("authorized"),
    ),
    (
        "capture",
        "hang_after",
        Story::Pays,
        "capturing",
        Some("captured"),
    ),
    (
        "void",
        "hang_before",
        Story::IsLate,
        "authorized",
        Some("authorized"),
    ),
    (
        "void",
        "hang_after",
        Story::IsLate,
        "authorized",
        Some("voided"),
    ),
    (
        "refund",
        "hang_before",
        Story::Cancels,
        "refunding",
        Some("captured"),
    ),
    (
        "refund",
        "hang_after",
        Story::Cancels,
        "refunding",
        Some("refunded"),
    ),
];

#[test]
fn a_server_that_is_killed_while_the_gateway_hangs_leaves_nothing_open() {
    run(async |arena| {
        let gateway = arena.gateway(&[]).await;
        let turns = gateway.worker(arena, &ONLY_DECIDES).await;
        let fence = ["--payment-fence-seconds", "1"];
        let arguments = [SOON.as_slice(), fence.as_slice()].concat();
        let (mut process, api) = gateway.api(arena, &arguments).await;
        let mut all = Vec::new();
        let mut calls = Vec::new();
        for (step, how, story, state, charge) in HANGING {
            for returns in [true, false] {
                let at = format!("{step} {how}");
                let mut answers = json!({});
                answers[step] = json!({"how": how});
                // No callback helps out while it hangs.
                let case = (story, false, at.as_str());
                let mut left = begin(&gateway, &api, case, answers).await;
                left.returns = returns;
                calls.push(tokio::spawn(try_send(left.call(&api.buyer("ada")))));
                all.push((left, state, charge));
            }
        }
        eventually(Duration::from_secs(20), async || {
            for (left, state, charge) in &all {
                if !stands(arena, &gateway, left, state, *charge).await {
                    return false;
                }
            }
            true
        })
        .await;
        process.kill();
        for call in calls {
            assert!(call.await.unwrap().is_err(), "an answer from the dead");
        }
        drop(turns);
        let left: Vec<Left> = all.into_iter().map(|(left, ..)| left).collect();
        recover(arena, &gateway, &left).await;
    });
}

/// Whether the one payment and its charge stand so.
async fn stands(
    arena: &Arena,
    gateway: &Gateway,
    left: &Left,
    state: &str,
    charge: Option<&str>,
) -> bool {
    let found: Option<(Uuid, String)> =
        sqlx::query_as("select payment_id, state from payments where show_id = $1")
            .bind(left.show.parse::<Uuid>().unwrap())
            .fetch_optional(&arena.pool)
            .await
            .unwrap();
    let Some((payment, found)) = found else {
        return false;
    };
    let charges = gateway.charges().await;
    let charge_of = |it: &&Value| it["metadata"]["payment_id"] == payment.to_string();
    let status = charges.iter().find(charge_of);
    found == state && status.and_then(|it| it["status"].as_str()) == charge
}

/// Runs a worker that dies there.
async fn die_recovering(arena: &Arena, gateway: &Gateway, point: &str) {
    let settings = gateway.settings();
    let mut arguments: Vec<&str> = settings.iter().map(String::as_str).collect();
    arguments.extend(RECOVERS);
    let failpoints = format!("{point}=return");
    arena.dying_worker(&failpoints, &arguments).crash().await;
}

#[test]
fn each_worker_goes_on_where_the_one_before_died() {
    run(async |arena| {
        let gateway = arena.gateway(&[]).await;
        let turns = gateway.worker(arena, &ONLY_DECIDES).await;
        let mut left = crash(arena, &gateway, (Story::Pays, false, "open_after_commit")).await;
        drop(turns);
        // One payment, and a worker for every window of it.
        for point in &PAYS[2..] {
            die_recovering(arena, &gateway, point).await;
        }
        let (process, api) = gateway.api(arena, &SOON).await;
        see_end(arena, &gateway, &api, &left).await;
        drop(process);

        let failpoints = "cancel_after_commit=return";
        let (mut process, api) = gateway.api_failing(arena, failpoints, &SOON).await;
        let ada = api.buyer("ada");
        let request = ada.poll(&left.show, &left.request, 0).await.expect(200);
        left.booking = Some(request["booking"]["id"].as_str().unwrap().to_owned());
        left.end = End::Refunded;
        assert!(try_send(left.call(&ada)).await.is_err());
        process.crash().await;
        for point in &CANCELS[2..] {
            die_recovering(arena, &gateway, point).await;
        }
        let (_process, api) = gateway.api(arena, &SOON).await;
        see_end(arena, &gateway, &api, &left).await;
    });
}

#[test]
fn a_show_that_is_cancelled_refunds_everyone_although_its_worker_dies() {
    run(async |arena| {
        let gateway = arena.gateway(&[]).await;
        let turns = gateway.worker(arena, &ONLY_DECIDES).await;
        let (_process, api) = gateway.api(arena, &SOON).await;
        let show = api.open_show(&paid_hall()).await;
        let wishes = json!([{"kind": "general_admission", "section": "FLOOR", "quantity": 2}]);
        let method = gateway.method("4000000000010705").await;
        for no in 0..5 {
            let buyer = api.buyer(&format!("buyer-{no}"));
            let held = buyer.ask(&show, wishes.clone()).await;
            let hold = held["hold"]["id"].as_str().unwrap();
            // The last one only holds.
            if no < 4 {
                let paid = buyer.pay(&show, hold, KEY, Some(&method)).await;
                assert_eq!(paid.expect(201)["state"], "captured");
            }
        }
        drop(turns);
        let body = json!({"reason": "the singer is ill"});
        let path = format!("/shows/{show}/cancel");
        api.operate(Method::POST, &path, Some(&body))
            .await
            .expect(202);
        for point in SHOW_IS_CANCELLED {
            die_recovering(arena, &gateway, point).await;
            // A worker that was given the job has half a minute for it.
            sqlx::query("update show_inventory set clear_at = now()")
                .execute(&arena.pool)
                .await
                .unwrap();
        }
        let _worker = gateway.worker(arena, &RECOVERS).await;
        eventually(RESOLVED_LIMIT, async || {
            let cleared: Option<bool> =
                sqlx::query_scalar("select cleared_at is not null from show_inventory")
                    .fetch_one(&arena.pool)
                    .await
                    .unwrap();
            cleared == Some(true)
        })
        .await;
        let money = Money::at_rest(&arena.pool, &gateway, &show).await;
        assert_eq!((money.count("refunded"), money.net), (4, 0), "{money:?}");
        let holds: Vec<String> = sqlx::query_scalar("select distinct state from holds")
            .fetch_all(&arena.pool)
            .await
            .unwrap();
        assert_eq!(holds, ["cancelled"]);
    });
}

#[test]
fn every_place_where_a_process_can_be_made_to_die_has_its_row() {
    let source = [
        include_str!("../../payments/src/till.rs"),
        include_str!("../../payments/src/till/batch.rs"),
        include_str!("../../payments/src/till/drive.rs"),
    ]
    .concat();
    let is_point = |word: &&str| {
        let of_a_step = word.starts_with("before_") || word.starts_with("after_");
        let of_a_commit = word.ends_with("_before_commit") || word.ends_with("_after_commit");
        of_a_step || of_a_commit
    };
    let points: BTreeSet<&str> = source.split('"').filter(is_point).collect();
    let rows = [
        &PAYS[..],
        &IS_DECLINED,
        &IS_LATE,
        &CANCELS,
        &SHOW_IS_CANCELLED,
    ]
    .concat();
    assert_eq!(points, rows.into_iter().collect());
}
