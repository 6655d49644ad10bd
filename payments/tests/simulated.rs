//! The client of the simulated gateway against the gateway itself, over HTTP.

#![expect(clippy::unwrap_used, reason = "a test says what it means with unwrap")]

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use chrono::{TimeDelta, Utc};
use reqwest::Client;
use serde_json::{Value, json};
use stampede_gateway::Settings;
use stampede_payments::{
    gateway::{CallbackError, Charge, ChargeStatus, Gateway, GatewayError, Order},
    simulated::Simulated,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use uuid::Uuid;

const ACCEPTED: &str = "4242424242424242";
const STEP: &str = "4000002500003155";
const SECRET_KEY: &str = "sk_test";
const CALLBACK_SECRET: &str = "whsec_now";

/// How long the client waits for an answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// A gateway and a client of it.
struct Running {
    url: String,
    client: Simulated,
    http: Client,
}

async fn start() -> Running {
    start_with(None).await
}

async fn start_with(callback_url: Option<String>) -> Running {
    let gateway = stampede_gateway::Gateway::bind(Settings {
        gateway_listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        gateway_public_url: None,
        secret_key: SECRET_KEY.into(),
        callback_url,
        callback_secret: Some(CALLBACK_SECRET.into()),
        ledger: None,
        key_memory_seconds: 86_400,
    });
    let gateway = gateway.await.unwrap();
    let url = format!("http://{}", gateway.address());
    tokio::spawn(gateway.run(std::future::pending()));
    Running {
        client: client(&url, SECRET_KEY),
        // The client above has installed what TLS needs.
        http: Client::builder().no_proxy().build().unwrap(),
        url,
    }
}

fn client(url: &str, key: &str) -> Simulated {
    let secrets = ["whsec_next", CALLBACK_SECRET].map(Into::into);
    Simulated::new(url, key.into(), secrets.to_vec(), TIMEOUT).unwrap()
}

impl Running {
    /// An order of 85.00 EUR on a card.
    async fn order(&self, card: &str) -> Order {
        let url = format!("{}/v1/payment-methods", self.url);
        let request = self.http.post(url).json(&json!({"card_number": card}));
        let method: Value = request.send().await.unwrap().json().await.unwrap();
        Order {
            show_id: Uuid::now_v7(),
            payment_id: Uuid::now_v7(),
            amount: 8_500,
            currency: "EUR".to_owned(),
            payment_method: method["id"].as_str().unwrap().to_owned(),
        }
    }

    async fn find(&self, order: &Order) -> Option<Charge> {
        self.client.find(order.payment_id, None).await.unwrap()
    }
}

fn is_unclear<T: std::fmt::Debug>(answer: Result<T, GatewayError>) {
    assert!(
        matches!(answer, Err(GatewayError::Unclear(_))),
        "{answer:?}"
    );
}

fn is_refused<T: std::fmt::Debug>(answer: Result<T, GatewayError>, expected: &str) {
    match answer {
        Err(GatewayError::Refused { code, .. }) => assert_eq!(code, expected),
        answer => panic!("{answer:?}"),
    }
}

#[tokio::test]
async fn money_is_reserved_taken_and_given_back() {
    let gateway = start().await;
    let order = gateway.order(ACCEPTED).await;
    let charge = gateway.client.authorize(&order).await.unwrap();
    assert_eq!(charge.status, ChargeStatus::Authorized);
    assert_eq!(charge.payment_id, Some(order.payment_id));
    assert_eq!(charge.show_id, Some(order.show_id));
    assert_eq!(charge.currency, "EUR");
    let id = charge.gateway_id.as_str();
    let captured = gateway.client.capture(order.payment_id, id).await.unwrap();
    assert_eq!(captured.status, ChargeStatus::Captured);
    assert_eq!((captured.captured, captured.refunded), (8_500, 0));
    let refunded = gateway.client.refund(order.payment_id, id).await.unwrap();
    assert_eq!(refunded.status, ChargeStatus::Refunded);
    assert_eq!((refunded.captured, refunded.refunded), (8_500, 8_500));
    // Said again, each step is the answer of then.
    let again = gateway.client.capture(order.payment_id, id).await.unwrap();
    assert_eq!(again, captured);
    let found = gateway.client.find(order.payment_id, Some(id)).await;
    assert_eq!(found.unwrap(), Some(refunded));
}

#[tokio::test]
async fn reserved_money_is_let_go_and_cannot_be_taken_any_more() {
    let gateway = start().await;
    let order = gateway.order(ACCEPTED).await;
    let charge = gateway.client.authorize(&order).await.unwrap();
    let id = charge.gateway_id.as_str();
    let voided = gateway.client.void(order.payment_id, id).await.unwrap();
    assert_eq!(voided.status, ChargeStatus::Voided);
    is_refused(
        gateway.client.capture(order.payment_id, id).await,
        "wrong_state",
    );
    is_refused(
        gateway.client.refund(order.payment_id, id).await,
        "wrong_state",
    );
}

#[tokio::test]
async fn a_decline_is_a_charge_with_its_reason() {
    let gateway = start().await;
    let order = gateway.order("4000000000009995").await;
    let charge = gateway.client.authorize(&order).await.unwrap();
    assert_eq!(charge.status, ChargeStatus::Declined);
    assert_eq!(charge.reason.as_deref(), Some("insufficient_funds"));
}

#[tokio::test]
async fn a_further_step_is_seen_when_it_is_taken() {
    let gateway = start().await;
    let order = gateway.order(STEP).await;
    let charge = gateway.client.authorize(&order).await.unwrap();
    assert_eq!(charge.status, ChargeStatus::Pending);
    let page = charge.next_action.unwrap();
    let taken = gateway.http.post(format!("{page}/complete")).send().await;
    assert_eq!(taken.unwrap().status(), 200);
    let found = gateway.find(&order).await.unwrap();
    assert_eq!(found.status, ChargeStatus::Authorized);
    assert_eq!(found.next_action, None);
}

#[tokio::test]
async fn a_charge_is_found_by_its_id_or_by_ours() {
    let gateway = start().await;
    let order = gateway.order(ACCEPTED).await;
    assert_eq!(gateway.find(&order).await, None);
    let unknown = "ch_00000000000000000000000000000000";
    for id in [unknown, "pi_of_another_gateway"] {
        let found = gateway.client.find(order.payment_id, Some(id)).await;
        assert_eq!(found.unwrap(), None);
    }
    let found = gateway
        .client
        .find(order.payment_id, Some("../cards"))
        .await;
    is_refused(found, "unknown_charge");
    let charge = gateway.client.authorize(&order).await.unwrap();
    assert_eq!(gateway.find(&order).await, Some(charge));
}

#[tokio::test]
async fn of_several_charges_the_newest_that_holds_money_counts() {
    let gateway = start().await;
    // This card forgets keys and fails after the first effect.
    let order = gateway.order("4000000000010501").await;
    is_unclear(gateway.client.authorize(&order).await);
    let first = gateway.find(&order).await.unwrap();
    let second = gateway.client.authorize(&order).await.unwrap();
    assert_ne!(first.gateway_id, second.gateway_id);
    assert_eq!(gateway.find(&order).await, Some(second.clone()));
    let voided = gateway.client.void(order.payment_id, &second.gateway_id);
    voided.await.unwrap();
    assert_eq!(gateway.find(&order).await, Some(first.clone()));
    let voided = gateway.client.void(order.payment_id, &first.gateway_id);
    voided.await.unwrap();
    let newest = gateway.find(&order).await.unwrap();
    assert_eq!(newest.gateway_id, second.gateway_id);
}

#[tokio::test]
async fn no_answer_and_500_are_unclear_whether_or_not_it_was_done() {
    let gateway = start().await;
    for (card, done) in [
        ("4000000000010101", false),
        ("4000000000010102", true),
        ("4000000000010103", false),
        ("4000000000010104", true),
    ] {
        let order = gateway.order(card).await;
        is_unclear(gateway.client.authorize(&order).await);
        assert_eq!(gateway.find(&order).await.is_some(), done, "{card}");
        let again = gateway.client.authorize(&order).await.unwrap();
        assert_eq!(gateway.find(&order).await, Some(again));
    }
}

#[tokio::test]
async fn a_hanging_capture_was_done_and_can_be_said_again() {
    let gateway = start().await;
    let order = gateway.order("4000000000010202").await;
    let charge = gateway.client.authorize(&order).await.unwrap();
    let id = charge.gateway_id.as_str();
    is_unclear(gateway.client.capture(order.payment_id, id).await);
    let found = gateway.find(&order).await.unwrap();
    assert_eq!(found.status, ChargeStatus::Captured);
    let again = gateway.client.capture(order.payment_id, id).await;
    assert_eq!(again.unwrap(), found);
}

#[tokio::test]
async fn nobody_there_is_unclear_and_a_wrong_key_is_refused() {
    let gateway = start().await;
    let order = gateway.order(ACCEPTED).await;
    let nobody = client("http://127.0.0.1:9", SECRET_KEY);
    is_unclear(nobody.authorize(&order).await);
    is_unclear(nobody.find(order.payment_id, None).await);
    let stranger = client(&gateway.url, "sk_other");
    is_refused(stranger.authorize(&order).await, "unauthorized");
    let unknown = Order {
        payment_method: "pm_00000000000000000000000000000000".to_owned(),
        ..order
    };
    let answer = gateway.client.authorize(&unknown).await;
    is_refused(answer, "unknown_payment_method");
}

#[tokio::test]
async fn an_answer_that_is_not_the_gateways_is_unclear() {
    for answer in [
        "HTTP/1.1 404 Not Found\r\ncontent-length: 5\r\n\r\nproxy",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:9/\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 429 Too Many\r\ncontent-length: 38\r\n\r\n{\"error\":{\"code\":\"slow\",\"detail\":\"no\"}}",
        "HTTP/1.1 201 Created\r\ncontent-length: 900\r\n\r\n{\"id\":",
        "",
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.read_buf(&mut Vec::new()).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        let found = client(&url, SECRET_KEY).find(Uuid::now_v7(), None).await;
        is_unclear(found);
    }
}

#[tokio::test]
async fn the_ledger_is_read_page_by_page() {
    let gateway = start().await;
    let before = Utc::now();
    let order = gateway.order(ACCEPTED).await;
    let mut made = Vec::new();
    for _ in 0..501 {
        let order = Order {
            payment_id: Uuid::now_v7(),
            ..order.clone()
        };
        made.push(gateway.client.authorize(&order).await.unwrap());
    }
    let first = gateway.client.ledger(before, None).await.unwrap();
    assert_eq!(first.charges, made[..500]);
    let rest = gateway.client.ledger(before, first.next.as_deref()).await;
    let rest = rest.unwrap();
    assert_eq!(rest.charges, made[500..]);
    assert_eq!(rest.next, None);
    let later = gateway.client.ledger(Utc::now(), None).await.unwrap();
    assert_eq!(later.charges, []);
}

type Heard = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// Somebody who listens to callbacks: signature and body of each.
async fn listen() -> (String, Heard) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/callbacks", listener.local_addr().unwrap());
    let heard = Heard::default();
    let hearing = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            let (head, body) = loop {
                stream.read_buf(&mut request).await.unwrap();
                if let Some(whole) = split(&request) {
                    break whole;
                }
            };
            let signature = header(&head, "gateway-signature").unwrap();
            hearing.lock().unwrap().push((signature, body));
            let answer = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
            stream.write_all(answer).await.unwrap();
        }
    });
    (url, heard)
}

/// Head and body, when the whole request is there.
fn split(request: &[u8]) -> Option<(String, Vec<u8>)> {
    let end = request.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8(request[..end].to_vec()).unwrap();
    let body = &request[end + 4..];
    let length: usize = header(&head, "content-length")?.parse().unwrap();
    (body.len() >= length).then(|| (head.clone(), body.to_vec()))
}

fn header(head: &str, name: &str) -> Option<String> {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    let (_, value) = lines.find(|(found, _)| found.eq_ignore_ascii_case(name))?;
    Some(value.to_owned())
}

#[tokio::test]
async fn a_callback_is_believed_only_if_a_known_secret_signed_it_lately() {
    let (url, heard) = listen().await;
    let gateway = start_with(Some(url)).await;
    // This card sends a forged callback before the true one.
    let order = gateway.order("4000000000010704").await;
    let charge = gateway.client.authorize(&order).await.unwrap();
    let waiting = async {
        while heard.lock().unwrap().len() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting)
        .await
        .unwrap();
    let heard = heard.lock().unwrap().clone();
    let check = |client: &Simulated, (signature, body): &(String, Vec<u8>), now| {
        let header = |name: &str| (name == "gateway-signature").then(|| signature.clone());
        client.check_callback(&header, body, now)
    };
    let now = Utc::now();
    let forged = check(&gateway.client, &heard[0], now);
    assert_eq!(forged, Err(CallbackError::WrongSignature));
    // The true one is signed with the second of the two secrets that the client knows.
    let callback = check(&gateway.client, &heard[1], now).unwrap();
    assert!(callback.event_id.starts_with("ev_"));
    let about = callback.about.unwrap();
    assert_eq!(about.show_id, order.show_id);
    assert_eq!(about.payment_id, order.payment_id);
    assert_eq!(about.gateway_id, charge.gateway_id);

    let late = check(&gateway.client, &heard[1], now + TimeDelta::minutes(6));
    assert_eq!(late, Err(CallbackError::TooOld));
    let (signature, mut body) = heard[1].clone();
    body[0] = b' ';
    let changed = check(&gateway.client, &(signature, body), now);
    assert_eq!(changed, Err(CallbackError::WrongSignature));
    let unsigned = gateway.client.check_callback(&|_| None, &heard[1].1, now);
    assert_eq!(unsigned, Err(CallbackError::NoSignature));
    let secrets = vec!["whsec_other".into()];
    let other = Simulated::new(&gateway.url, SECRET_KEY.into(), secrets, TIMEOUT);
    let unknown = check(&other.unwrap(), &heard[1], now);
    assert_eq!(unknown, Err(CallbackError::WrongSignature));
}

#[test]
fn the_url_of_a_gateway_is_checked_at_once() {
    for url in ["", "gateway:8090", "ftp://gateway", "127.0.0.1:8090"] {
        let made = Simulated::new(url, SECRET_KEY.into(), Vec::new(), TIMEOUT);
        assert!(made.is_err(), "{url}");
    }
}
