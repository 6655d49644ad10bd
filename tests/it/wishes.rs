//! Wishes as buyers send them, crowds that send them, and what tests read out of the answers.

use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use serde_json::{Value, json};

use crate::harness::{Api, Buyer};

/// Exactly these seats.
pub fn seats(labels: &[&str]) -> Value {
    json!({"kind": "seats", "seats": labels})
}

/// The best seats, neighbours if there are any.
pub fn best(section: &str, quantity: u32) -> Value {
    json!({"kind": "best_available", "section": section, "quantity": quantity})
}

/// The best neighbours or nothing.
pub fn neighbours(section: &str, quantity: u32) -> Value {
    json!({
        "kind": "best_available", "section": section, "quantity": quantity, "adjacent": "required",
    })
}

/// Places without numbers.
pub fn places(section: &str, quantity: u32) -> Value {
    json!({"kind": "general_admission", "section": section, "quantity": quantity})
}

/// A submission of these wishes.
pub fn body(wishes: &[Value]) -> Value {
    json!({ "wishes": wishes })
}

/// What became of one of a crowd.
pub struct Asked {
    pub buyer: Buyer,
    pub request: Value,
}

impl Asked {
    pub fn is_held(&self) -> bool {
        self.request["state"] == "held"
    }

    pub fn reason(&self) -> &str {
        self.request["reason"].as_str().unwrap_or_default()
    }
}

/// The most who ask at the same time: more would test how many connections this machine can serve.
const AT_ONCE: usize = 200;

/// A buyer for each wish, all at once, until all are answered.
pub async fn crowd(api: &Api, show: &str, wishes: impl IntoIterator<Item = Value>) -> Vec<Asked> {
    let asking = wishes.into_iter().enumerate().map(async |(no, wish)| {
        let buyer = api.buyer(&format!("buyer-{no}"));
        let request = buyer.ask(show, json!([wish])).await;
        Asked { buyer, request }
    });
    stream::iter(asking).buffered(AT_ONCE).collect().await
}

/// How many were met; all others have this reason.
#[track_caller]
pub fn winners(crowd: &[Asked], reason_of_losers: &str) -> usize {
    let (held, lost): (Vec<_>, Vec<_>) = crowd.iter().partition(|asked| asked.is_held());
    for asked in lost {
        assert_eq!(asked.reason(), reason_of_losers, "{}", asked.request);
    }
    held.len()
}

/// The id of a request, a show or a key.
#[track_caller]
pub fn id(of: &Value) -> &str {
    of["id"].as_str().expect("it has an id")
}

/// The id of a request's hold.
#[track_caller]
pub fn hold_id(request: &Value) -> &str {
    request["hold"]["id"]
        .as_str()
        .expect("the request has a hold")
}

/// The seats of a request's hold.
#[track_caller]
pub fn held_seats(request: &Value) -> Vec<&str> {
    let labels = request["hold"]["seats"]
        .as_array()
        .expect("the request has a hold");
    labels.iter().map(|label| label.as_str().unwrap()).collect()
}

/// Waits until so many of a section are available, held and booked: the public figures are a moment
/// old.
pub async fn expect_availability(api: &Api, show: &str, section: &str, expected: [i64; 3]) {
    let mut seen = [0; 3];
    let deadline = Instant::now() + Duration::from_secs(3);
    while seen != expected {
        assert!(
            Instant::now() < deadline,
            "{section}: {seen:?} is not {expected:?}"
        );
        seen = availability(api, show, section).await;
    }
}

async fn availability(api: &Api, show: &str, section: &str) -> [i64; 3] {
    let body = api
        .get(&format!("/v1/shows/{show}/availability"))
        .await
        .expect(200);
    let sections = body["sections"].as_array().expect("a show has sections");
    let of = sections
        .iter()
        .find(|it| it["name"] == section)
        .expect("the show has this section");
    ["available", "held", "booked"].map(|state| of[state].as_i64().unwrap())
}
