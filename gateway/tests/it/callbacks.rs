//! What the client is told of changes, and how.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use hmac::{Hmac, Mac};
use serde_json::Value;
use sha2::Sha256;

use crate::harness::{ACCEPTED, CALLBACK_SECRET, Heard, Listener, STEP, eventually, start_with};

/// Whether the true secret signed it, a moment ago.
fn signed(heard: &Heard) -> bool {
    let (time, signature) = heard.signature.split_once(",v1=").unwrap();
    let time = time.strip_prefix("t=").unwrap();
    let age = chrono::Utc::now().timestamp() - time.parse::<i64>().unwrap();
    assert!((0..60).contains(&age), "{age}");
    let mut mac = Hmac::<Sha256>::new_from_slice(CALLBACK_SECRET.as_bytes()).unwrap();
    mac.update(time.as_bytes());
    mac.update(b".");
    mac.update(&heard.body);
    let digest = mac.finalize().into_bytes();
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    hex == signature
}

fn kinds(heard: &[Heard]) -> Vec<&str> {
    let kinds = heard.iter().map(|heard| heard.event["type"].as_str());
    kinds.map(Option::unwrap).collect()
}

fn ids(heard: &[Heard]) -> HashSet<&Value> {
    heard.iter().map(|heard| &heard.event["id"]).collect()
}

#[tokio::test]
async fn every_change_makes_one_signed_event_with_the_charge_of_then() {
    let (listener, settings) = Listener::start().await;
    let gateway = start_with(settings).await;
    let pending = gateway.charge(STEP).await;
    listener.hears(1).await;
    gateway.buyer(&pending, "complete").await;
    listener.hears(2).await;
    let captured = gateway.step(&pending, "capture").await.expect(200);
    gateway.step(&pending, "capture").await.expect(200);
    listener.hears(3).await;
    gateway.step(&pending, "refund").await.expect(200);
    listener.hears(4).await;
    let voided = gateway.charge(ACCEPTED).await;
    listener.hears(5).await;
    gateway.step(&voided, "void").await.expect(200);
    listener.hears(6).await;
    gateway.charge("4000000000000002").await;
    let heard = listener.hears(7).await;
    assert!(heard.iter().all(signed));
    assert_eq!(ids(&heard).len(), 7);
    assert_eq!(
        kinds(&heard),
        [
            "charge.pending",
            "charge.authorized",
            "charge.captured",
            "charge.refunded",
            "charge.authorized",
            "charge.voided",
            "charge.declined",
        ]
    );
    assert_eq!(heard[0].event["charge"], pending);
    assert_eq!(heard[2].event["charge"], captured);
}

#[tokio::test]
async fn a_callback_is_sent_again_until_it_is_heard() {
    let (listener, settings) = Listener::start().await;
    *listener.deaf.lock().unwrap() = 1;
    let gateway = start_with(settings).await;
    gateway.charge(ACCEPTED).await;
    let heard = listener.hears(2).await;
    assert_eq!(heard[0].event, heard[1].event);
    assert!(heard.iter().all(signed));
    // It was heard, so there is no third: the next is of another charge.
    gateway.charge(ACCEPTED).await;
    let heard = listener.hears(3).await;
    assert_ne!(heard[2].event["id"], heard[1].event["id"]);
}

#[tokio::test]
async fn a_card_sends_its_callbacks_twice() {
    let (listener, settings) = Listener::start().await;
    let gateway = start_with(settings).await;
    gateway.charge("4000000000010701").await;
    let heard = listener.hears(2).await;
    assert_eq!(ids(&heard).len(), 1);
    assert!(heard.iter().all(signed));
}

#[tokio::test]
async fn a_card_sends_its_callbacks_late() {
    let (listener, settings) = Listener::start().await;
    let gateway = start_with(settings).await;
    let start = Instant::now();
    gateway.charge("4000000000010702").await;
    listener.hears(1).await;
    assert!(start.elapsed() >= Duration::from_secs(3));
}

#[tokio::test]
async fn a_card_sends_its_callbacks_newest_first() {
    let (listener, settings) = Listener::start().await;
    let gateway = start_with(settings).await;
    let charge = gateway.charge("4000000000010703").await;
    gateway.step(&charge, "capture").await.expect(200);
    gateway.step(&charge, "refund").await.expect(200);
    assert_eq!(
        kinds(&listener.hears(3).await),
        ["charge.refunded", "charge.captured", "charge.authorized"]
    );
}

#[tokio::test]
async fn a_card_sends_a_forged_callback_before_the_true_one() {
    let (listener, settings) = Listener::start().await;
    let gateway = start_with(settings).await;
    gateway.charge("4000000000010704").await;
    let heard = listener.hears(2).await;
    assert_eq!([signed(&heard[0]), signed(&heard[1])], [false, true]);
}

#[tokio::test]
async fn odd_orders_go_together() {
    let (listener, settings) = Listener::start().await;
    let gateway = start_with(settings).await;
    let charge = gateway.charge("4000000000010706").await;
    gateway.step(&charge, "capture").await.expect(200);
    let heard = listener.hears(6).await;
    let newest_first = ["charge.captured"; 3].into_iter();
    let newest_first = newest_first.chain(["charge.authorized"; 3]);
    assert_eq!(kinds(&heard), newest_first.collect::<Vec<_>>());
    let forged = heard.iter().filter(|heard| !signed(heard));
    assert_eq!(forged.count(), 2);
}

#[tokio::test]
async fn a_card_without_callbacks_sends_none() {
    let (listener, settings) = Listener::start().await;
    let gateway = start_with(settings).await;
    let silent = gateway.charge("4000000000010705").await;
    let told = gateway.charge(ACCEPTED).await;
    let heard = eventually(async || listener.heard().pop()).await;
    assert_eq!(heard.event["charge"]["id"], told["id"]);
    gateway.step(&silent, "capture").await.expect(200);
    gateway.step(&told, "capture").await.expect(200);
    let heard = listener.hears(2).await;
    assert_eq!(heard[1].event["charge"]["id"], told["id"]);
}

#[tokio::test]
async fn nobody_who_listens_does_not_hold_up_a_charge() {
    let (_, mut settings) = Listener::start().await;
    settings.callback_url = Some("http://127.0.0.1:9/nobody".to_owned());
    let gateway = start_with(settings).await;
    for _ in 0..50 {
        assert_eq!(gateway.charge(ACCEPTED).await["status"], "authorized");
    }
    gateway.stop().await;
}
