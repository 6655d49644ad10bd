//! What seats cost: by section and by category, all-in, with the part that is fees; the same wherever it
//! is told, and never more than the buyer would pay.

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Executor, PgPool, Row, postgres::PgPoolOptions};

use crate::{
    harness::{Answer, Api, Buyer, floor, open_floors, run, seated, show},
    wishes::{best, body, held_seats, id, neighbours, places, seats},
};

fn eur(amount: i64) -> Value {
    json!({"amount": amount, "currency": "EUR"})
}

/// A seated section of three rows of four: the front row at 80.00 (fees 8.00), the middle one at the
/// section's 50.00 (fees 5.00), the last one at 30.00 without fees. And a floor at 30.00 (fees 3.00).
fn hall() -> Value {
    let mut section = seated("A", 3, 4);
    section["fee"] = eur(500);
    section["categories"] = json!([
        {"name": "Front", "price": eur(8_000), "fee": eur(800)},
        {"name": "Back", "price": eur(3_000)},
    ]);
    for (row, category) in [(0, "Front"), (2, "Back")] {
        for seat in section["rows"][row]["seats"].as_array_mut().unwrap() {
            seat["category"] = json!(category);
        }
    }
    let mut floor = floor("FLOOR", 20);
    floor["fee"] = eur(300);
    floor["categories"] = json!(null);
    show([section, floor])
}

/// Asks for one wish with a maximum and waits for what becomes of it.
async fn ask_within(buyer: &Buyer, show: &str, wish: Value, max_total: i64) -> Value {
    let mut submission = body(&[wish]);
    submission["max_total"] = eur(max_total);
    let accepted = buyer.submit(show, &submission).await.expect(202);
    buyer.outcome(show, id(&accepted)).await
}

/// Checks the total and the fees of a request's hold.
#[track_caller]
fn costs(request: &Value, total: i64, fees: i64) {
    assert_eq!(request["hold"]["total"], eur(total), "{request}");
    assert_eq!(request["hold"]["fees"], eur(fees), "{request}");
}

#[test]
fn a_show_tells_what_each_seat_costs() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let show = api.create_show(&hall()).await;
        let path = format!("/v1/shows/{show}");
        let shown = api.get(&path).await.expect(200);
        let expected = json!([
            {"name": "A", "kind": "seated", "capacity": 12, "price": eur(5_000), "fee": eur(500),
             "categories": [
                {"name": "Front", "price": eur(8_000), "fee": eur(800)},
                {"name": "Back", "price": eur(3_000), "fee": eur(0)},
             ]},
            {"name": "FLOOR", "kind": "general_admission", "capacity": 20, "price": eur(3_000),
             "fee": eur(300), "categories": []},
        ]);
        assert_eq!(shown["sections"], expected);
        let map = api.get(&format!("{path}/seats")).await.expect(200);
        let categories: Vec<Option<&Value>> = map["seats"]
            .as_array()
            .unwrap()
            .iter()
            .map(|seat| seat.get("category"))
            .collect();
        let (front, back) = (json!("Front"), json!("Back"));
        assert_eq!(categories[..4], [Some(&front); 4]);
        assert_eq!(categories[4..8], [None; 4]);
        assert_eq!(categories[8..], [Some(&back); 4]);
    });
}

#[test]
fn a_hold_costs_the_same_wherever_it_is_told() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let _worker = arena.worker(&[]).await;
        let show = api.open_show(&hall()).await;
        for (buyer, wish, total, fees) in [
            ("ada", seats(&["A-3-1", "A-1-1", "A-2-1"]), 16_000, 1_300),
            ("bob", neighbours("A", 2), 16_000, 1_600),
            ("eve", places("FLOOR", 3), 9_000, 900),
        ] {
            let buyer = api.buyer(buyer);
            let held = buyer.ask(&show, json!([wish])).await;
            costs(&held, total, fees);
            let polled = buyer.poll(&show, id(&held), 0).await.expect(200);
            costs(&polled, total, fees);
            let list = buyer.get(&format!("/v1/shows/{show}/requests")).await;
            costs(&list.expect(200)["requests"][0], total, fees);
            assert_eq!(stored(&arena.pool, id(&held)).await, (total, fees));
        }
    });
}

/// The total and the fees of a request's hold in the database.
async fn stored(pool: &PgPool, request_id: &str) -> (i64, i64) {
    sqlx::query_as("select total, fees from request_status where request_id = $1::uuid")
        .bind(request_id)
        .fetch_one(pool)
        .await
        .unwrap()
}

#[test]
fn the_maximum_counts_the_fees_and_is_kept_to_by_every_kind_of_wish() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let _worker = arena.worker(&[]).await;
        let show = api.open_show(&hall()).await;
        let ada = api.buyer("ada");
        for (wish, total, fees) in [
            (seats(&["A-1-1", "A-3-1"]), 11_000, 800),
            (places("FLOOR", 2), 6_000, 600),
        ] {
            let refused = ask_within(&ada, &show, wish.clone(), total - 1).await;
            assert_eq!(refused["reason"], "price_over_max", "{refused}");
            costs(&ask_within(&ada, &show, wish, total).await, total, fees);
        }
    });
}

#[test]
fn who_cannot_pay_the_best_seats_gets_the_best_that_can_be_paid() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let _worker = arena.worker(&[]).await;
        let cases = [
            (neighbours("A", 2), 16_000, &["A-1-1", "A-1-2"][..], 1_600),
            (neighbours("A", 2), 15_999, &["A-2-1", "A-2-2"], 1_000),
            (neighbours("A", 2), 9_999, &["A-3-1", "A-3-2"], 0),
            // No row has five seats.
            (
                best("A", 5),
                36_999,
                &["A-1-1", "A-1-2", "A-1-3", "A-1-4", "A-3-1"],
                3_200,
            ),
        ];
        let show = api.open_show(&ranked(hall())).await;
        for (wish, max_total, labels, fees) in cases {
            let buyer = api.buyer("ada");
            let held = ask_within(&buyer, &show, wish, max_total).await;
            assert_eq!(held_seats(&held), labels, "{held}");
            assert_eq!(held["hold"]["fees"], eur(fees), "{held}");
            assert!(held["hold"]["total"]["amount"].as_i64() <= Some(max_total));
            buyer.cancel(&show, id(&held)).await.expect(200);
        }
        for wish in [neighbours("A", 2), best("A", 2)] {
            let refused = ask_within(&api.buyer("bob"), &show, wish, 5_999).await;
            assert_eq!(refused["reason"], "price_over_max", "{refused}");
        }
        let enough = neighbours("A", 5);
        let refused = ask_within(&api.buyer("eve"), &show, enough, 99_999).await;
        assert_eq!(refused["reason"], "no_adjacent_seats", "{refused}");
    });
}

/// The same hall with seats that are better the further left they are.
fn ranked(mut hall: Value) -> Value {
    for row in 0..3 {
        let seats = &mut hall["sections"][0]["rows"][row]["seats"];
        for (place, seat) in (0..).zip(seats.as_array_mut().unwrap()) {
            seat["rank"] = json!(10 * row + place);
        }
    }
    hall
}

#[test]
fn a_free_seat_costs_nothing() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let _worker = arena.worker(&[]).await;
        let mut hall = hall();
        hall["sections"][0]["categories"][1] = json!({"name": "Back", "price": eur(0)});
        let show = api.open_show(&hall).await;
        let held = ask_within(&api.buyer("ada"), &show, neighbours("A", 2), 0).await;
        costs(&held, 0, 0);
    });
}

#[test]
fn a_price_that_cannot_be_is_refused_with_a_pointer() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let usd = json!({"amount": 1, "currency": "USD"});
        let category = |name: usize| json!({"name": name.to_string(), "price": eur(1)});
        let many: Vec<Value> = (0..51).map(category).collect();
        for (place, value, pointer) in [
            ("/0/fee", json!(5), "/0/fee"),
            ("/0/fee", eur(5_001), "/0/fee/amount"),
            ("/0/fee", eur(-1), "/0/fee/amount"),
            ("/0/fee", usd.clone(), "/0/fee/currency"),
            ("/0/fee", json!({"amount": 1}), "/0/fee"),
            ("/1/fee", eur(3_001), "/1/fee/amount"),
            ("/1/categories", json!([]), "/1/categories"),
            ("/0/categories", json!({}), "/0/categories"),
            ("/0/categories", json!(many), "/0/categories"),
            ("/0/categories/0", json!("Front"), "/0/categories/0"),
            ("/0/categories/0/name", json!(" "), "/0/categories/0/name"),
            (
                "/0/categories/0/name",
                json!("a\u{0}b"),
                "/0/categories/0/name",
            ),
            (
                "/0/categories/0/name",
                json!("Back"),
                "/0/categories/1/name",
            ),
            (
                "/0/categories/0/price",
                json!(null),
                "/0/categories/0/price",
            ),
            (
                "/0/categories/0/price",
                eur(100_000_001),
                "/0/categories/0/price/amount",
            ),
            (
                "/0/categories/0/price",
                usd.clone(),
                "/0/categories/0/price/currency",
            ),
            (
                "/0/categories/0/fee",
                eur(8_001),
                "/0/categories/0/fee/amount",
            ),
            ("/0/categories/0/fee", usd, "/0/categories/0/fee/currency"),
            (
                "/0/rows/0/seats/0/category",
                json!("Balcony"),
                "/0/rows/0/seats/0/category",
            ),
            (
                "/0/rows/0/seats/0/category",
                json!(7),
                "/0/rows/0/seats/0/category",
            ),
        ] {
            let mut hall = hall();
            *hall.pointer_mut(&format!("/sections{place}")).unwrap() = value.clone();
            let refused = create(&api, &hall).await.expect(422);
            assert_eq!(refused["code"], "invalid-body");
            let told = refused["errors"][0]["pointer"].as_str().unwrap();
            assert_eq!(told, format!("/sections{pointer}"), "{value}: {refused}");
        }
        create(&api, &hall()).await.expect(201);
    });
}

async fn create(api: &Api, hall: &Value) -> Answer {
    api.operate(Method::POST, "/shows", Some(hall)).await
}

#[test]
fn a_show_from_before_fees_sells_at_its_prices() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let _worker = arena.worker(&[]).await;
        let show = open_floors(&arena.pool, 1, 5).await[0].to_string();
        let shown = api.get(&format!("/v1/shows/{show}")).await.expect(200);
        assert_eq!(shown["sections"][0]["price"], eur(3_000));
        assert_eq!(shown["sections"][0]["fee"], eur(0));
        assert_eq!(shown["sections"][0]["categories"], json!([]));
        let ada = api.buyer("ada");
        costs(
            &ask_within(&ada, &show, places("FLOOR", 2), 6_000).await,
            6_000,
            0,
        );
    });
}

/// The migrations that made the tables of before, and the one that gave prices their parts.
const BEFORE: [&str; 5] = [
    include_str!("../../migrations/0001_shows.sql"),
    include_str!("../../migrations/0002_queue.sql"),
    include_str!("../../migrations/0003_holds.sql"),
    include_str!("../../migrations/0004_api_keys.sql"),
    include_str!("../../migrations/0005_request_status.sql"),
];
const PRICES: &str = include_str!("../../migrations/0006_prices.sql");

/// A show with one seat, which is held.
const ROWS: &str = "
    insert into shows
    values ('00000000-0000-0000-0000-000000000001', 'Old', 'EUR', 8, 600, now());
    insert into sections (show_id, section_no, name, kind, price, capacity, held, version)
    select show_id, 0, 'A', 'seated', 5000, 1, 1, 1 from shows;
    insert into holds
    select show_id, show_id, 1, 'ada', 'held', null, 1, 5000, now(), now() from shows;
    insert into seats
    select show_id, 0, 0, 'A-1', 0, 0, 0, 0, 0, 'held', show_id, 1 from shows;
    insert into hold_seats select show_id, show_id, 0 from shows;
    insert into booking_requests
    select show_id, 1, show_id, 'ada', 'key', '', '[]', null, now() from shows;
    insert into outcomes select show_id, 1, 'held', null, show_id, now() from shows;";

#[test]
fn rows_from_before_fees_survive_the_migration() {
    run(async |arena| {
        // One connection, for the schema in which the tables of before are made.
        let pool = PgPoolOptions::new().max_connections(1);
        let pool = pool.connect(&arena.database_url()).await.unwrap();
        pool.execute("create schema before; set search_path to before")
            .await
            .unwrap();
        for statements in BEFORE.into_iter().chain([ROWS, PRICES]) {
            pool.execute(statements).await.unwrap();
        }
        let row = pool
            .fetch_one(
                "select total, fees, seats, fee, category_no
                from request_status
                join sections using (show_id)
                join seats using (show_id)",
            )
            .await
            .unwrap();
        let amount = |column: &str| row.get::<i64, _>(column);
        let amounts = (amount("total"), amount("fees"), amount("fee"));
        assert_eq!(amounts, (5_000, 0, 0));
        assert_eq!(row.get::<Vec<i32>, _>("seats"), [0]);
        assert_eq!(row.get::<Option<i16>, _>("category_no"), None);
        pool.close().await;
    });
}

#[test]
fn the_database_refuses_prices_that_must_never_be() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let _worker = arena.worker(&[]).await;
        let show = api.open_show(&hall()).await;
        api.buyer("ada")
            .ask(&show, json!([places("FLOOR", 1)]))
            .await;
        for (statement, constraint) in [
            ("update sections set fee = price + 1", "sections_fee_range"),
            (
                "update price_categories set fee = price + 1",
                "price_categories_fee_range",
            ),
            (
                "update price_categories set name = 'Front'",
                "price_categories_name_once",
            ),
            (
                "update seats set category_no = 7",
                "seats_category_of_their_section",
            ),
            (
                "update holds set fees = total + 1",
                "holds_fees_within_total",
            ),
            ("update holds set fees = -1", "holds_fees_within_total"),
        ] {
            let refused = arena.pool.execute(statement).await.expect_err(statement);
            let refused = refused.into_database_error().expect(statement);
            assert_eq!(refused.constraint(), Some(constraint), "{statement}");
        }
    });
}
