//! The ledger on disk, and a gateway that continues it.

use std::{fs::File, io::Write};

use serde_json::json;
use stampede_gateway::Gateway;
use uuid::Uuid;

use crate::harness::{ACCEPTED, LedgerFile, STEP, send, start_with};

#[tokio::test]
async fn a_restarted_gateway_knows_methods_charges_keys_and_troubles() {
    let file = LedgerFile::new();
    let gateway = start_with(file.settings()).await;
    let payment_id = Uuid::now_v7();
    let order = gateway.order(ACCEPTED, payment_id).await;
    let charge = gateway.authorize(&order, "key").await.expect(201);
    let captured = send(gateway.step_request(&charge, "capture", "capture"));
    let captured = captured.await.expect(200);
    let pending = gateway.charge(STEP).await;
    let unused = gateway.order("4000000000000002", Uuid::now_v7()).await;
    // Its void says 500 after the effect.
    let troubled = gateway.charge("4000000000010304").await;
    let ledger = gateway.get("/v1/charges").await.expect(200);
    let url = gateway.url.clone();
    gateway.stop().await;

    let gateway = start_with(file.settings()).await;
    let mut continued = gateway.get("/v1/charges").await.expect(200);
    // The page of the further step is where the gateway is now.
    let page = continued["charges"][1]["next_action"].as_str().unwrap();
    continued["charges"][1]["next_action"] = json!(page.replace(&gateway.url, &url));
    assert_eq!(continued, ledger);
    assert_eq!(gateway.authorize(&order, "key").await.expect(201), charge);
    let again = send(gateway.step_request(&charge, "capture", "capture"));
    assert_eq!(again.await.expect(200), captured);
    send(gateway.step_request(&charge, "refund", "capture"))
        .await
        .expect_error(422, "key_reused");
    assert_eq!(gateway.of_payment(payment_id).await, [captured]);
    assert_eq!(gateway.buyer(&pending, "complete").await, 200);
    let declined = gateway.authorize(&unused, "unused").await.expect(201);
    assert_eq!(declined["status"], "declined");
    gateway
        .step(&troubled, "void")
        .await
        .expect_error(500, "told_to_fail");
    assert_eq!(gateway.now(&troubled).await["status"], "voided");
}

#[tokio::test]
async fn a_torn_last_line_is_forgotten_and_written_over() {
    let file = LedgerFile::new();
    let gateway = start_with(file.settings()).await;
    let first = gateway.charge(ACCEPTED).await;
    gateway.stop().await;
    let whole = file.text();
    let torn = &whole[..whole.len() / 2];
    assert!(!torn.ends_with('\n'));
    append(&file, torn.lines().last().unwrap());

    let gateway = start_with(file.settings()).await;
    assert_eq!(file.text(), whole);
    let second = gateway.charge(ACCEPTED).await;
    gateway.stop().await;
    let gateway = start_with(file.settings()).await;
    let ledger = gateway.get("/v1/charges").await.expect(200);
    assert_eq!(ledger["charges"], json!([first, second]));
}

#[tokio::test]
async fn a_broken_line_within_is_an_error_that_names_it() {
    let file = LedgerFile::new();
    let gateway = start_with(file.settings()).await;
    gateway.charge(ACCEPTED).await;
    gateway.stop().await;
    append(&file, "{\"charge\":\n");
    let Err(error) = Gateway::bind(file.settings()).await else {
        panic!("it was read");
    };
    let error = format!("{error:#}");
    assert!(error.contains("line 3"), "{error}");
}

#[tokio::test]
async fn two_gateways_never_write_one_ledger() {
    let file = LedgerFile::new();
    let first = start_with(file.settings()).await;
    let Err(error) = Gateway::bind(file.settings()).await else {
        panic!("two write it");
    };
    let error = format!("{error:#}");
    assert!(error.contains("another gateway uses it"), "{error}");
    first.stop().await;
    start_with(file.settings()).await;
}

#[tokio::test]
async fn the_file_has_only_the_last_four_digits_of_a_card() {
    let file = LedgerFile::new();
    let gateway = start_with(file.settings()).await;
    let charge = gateway.charge("4000000000009995").await;
    gateway.step(&charge, "capture").await;
    let text = file.text();
    assert!(text.contains("\"9995\""));
    assert!(!text.contains("40000000"));
}

fn append(file: &LedgerFile, text: &str) {
    let mut file = File::options().append(true).open(&file.0).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}
