//! The flood as a real process: that it finds nothing when all is well, and everything that is not.

mod pays;

use std::{future::ready, path::PathBuf, process::Command, time::Duration};

use serde_json::{Value, json};
use sqlx::{Executor, PgPool, postgres::PgPoolOptions};
use stampede_flood::checker;
use tokio::time::Instant;
use uuid::Uuid;

use crate::harness::{
    Arena, BUYER_SECRET, Process, binary, eventually, floor, join_lines, open_floors, run, seated,
    show,
};

/// The longest flood here takes seconds; on a busy machine, and with servers killed, more.
const FLOOD_LIMIT: Duration = Duration::from_secs(120);

/// A running `stampede flood` at an API of the test.
pub struct Flood {
    process: Process,
    figures: PathBuf,
    began: Instant,
}

impl Flood {
    /// Starts it; `arguments` say how many come and when.
    pub fn start(arena: &Arena, url: &str, arguments: &[&str]) -> Flood {
        let mut command = binary();
        command
            .env("STAMPEDE_OPERATOR_KEY", operator_key(arena))
            .env("STAMPEDE_BUYER_SECRET", BUYER_SECRET)
            .args(["flood", "--target", url]);
        Flood::spawn(arena, command, arguments)
    }

    /// Starts one with a server of its own, beside the databases of the tests.
    pub fn start_with_its_server(arena: &Arena, arguments: &[&str]) -> Flood {
        let mut command = binary();
        command.arg("flood");
        Flood::spawn(arena, command, arguments)
    }

    fn spawn(arena: &Arena, mut command: Command, arguments: &[&str]) -> Flood {
        let figures = format!("flood-{}.json", Uuid::now_v7().simple());
        let figures = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(figures);
        command
            .env("DATABASE_URL", arena.database_url())
            .args(arguments)
            .arg("--json")
            .arg(&figures);
        let process = Process::spawn("flood", &mut command);
        Flood {
            process,
            figures,
            began: Instant::now(),
        }
    }

    /// Whether it is still running a moment later; panics if it runs for too long.
    pub async fn goes_on(&mut self) -> bool {
        assert!(self.began.elapsed() < FLOOD_LIMIT, "the flood does not end");
        tokio::time::sleep(Duration::from_millis(10)).await;
        self.process.is_running()
    }

    /// Waits for its end; its exit code and its figures.
    pub async fn end(mut self) -> (i32, Value) {
        eventually(FLOOD_LIMIT, || ready(!self.process.is_running())).await;
        let code = self.process.exit().await.code();
        let figures = std::fs::read_to_string(&self.figures);
        let figures = figures.unwrap_or_else(|error| panic!("{error}: {}", self.process.stderr()));
        std::fs::remove_file(&self.figures).ok();
        let figures = serde_json::from_str(&figures).expect("the figures are JSON");
        (code.expect("it was not killed"), figures)
    }

    /// Waits for its end, at which it must have found nothing: everybody was accepted and told the
    /// outcome.
    pub async fn end_clean(self) -> Value {
        let (code, mut figures) = self.end().await;
        // What remains is short enough to be shown.
        for long in ["series", "config"] {
            figures[long].take();
        }
        assert_eq!(figures["violations"], json!([]), "{figures:#}");
        assert_eq!(figures["lost"], 0, "{figures:#}");
        assert_eq!(code, 0, "{figures:#}");
        assert_eq!(figures["database_checked"], true);
        assert_eq!(figures["accepted"], figures["submitted"], "{figures:#}");
        assert_eq!(figures["decided"], figures["accepted"], "{figures:#}");
        assert_eq!(figures["unacknowledged"], 0, "{figures:#}");
        figures
    }
}

/// A new key from `stampede api-key`.
fn operator_key(arena: &Arena) -> String {
    let output = binary()
        .env("DATABASE_URL", arena.database_url())
        .args(["api-key", "--role", "operator", "--name", "flood"])
        .output()
        .expect("creating a key");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_flood_of_thousands_loses_and_doubles_nothing() {
    run(async |arena| {
        let (mut api, client) = arena.api(&[]).await;
        let mut workers = [arena.worker(&[]).await, arena.worker(&[]).await];
        let arguments = ["--requests", "5000", "--arrivals", "burst"];
        let flood = Flood::start(arena, &client.url, &arguments);
        let figures = flood.end_clean().await;
        assert_eq!(figures["submitted"], 5_000);
        let count = |name: &str| figures[name].as_u64().unwrap();
        assert_eq!(count("held") + count("rejected") + count("left"), 5_000);
        assert!(count("held") > 500 && count("confirmed") > 100, "{figures}");
        // Without a gateway, nothing is to be paid.
        assert_eq!(figures["payments"], Value::Null);
        api.stop().await;
        for worker in &mut workers {
            worker.stop().await;
        }
    });
}

#[test]
fn a_flood_tells_of_a_request_that_never_got_its_outcome() {
    run(async |arena| {
        // Whoever is fifth in a line is forgotten.
        arena
            .pool
            .execute(
                "create function forget() returns trigger language plpgsql
                    as $$ begin return null; end $$;
                create trigger forget before insert on outcomes
                    for each row when (new.position = 5) execute function forget()",
            )
            .await
            .unwrap();
        let (_api, client) = arena.api(&[]).await;
        let _worker = arena.worker(&[]).await;
        // Nobody leaves the line, which would be an outcome, too.
        let arguments = [
            "--requests",
            "100",
            "--patience",
            "2",
            "--pollers",
            "0",
            "--leave",
            "0",
        ];
        let flood = Flood::start(arena, &client.url, &arguments);
        let (code, figures) = flood.end().await;
        assert_eq!(code, 1);
        assert_eq!(figures["lost"], 1);
        let rules = rules_of(figures["violations"].as_array().unwrap(), |it| &it["rule"]);
        assert!(
            rules.contains(&json!("one_outcome_per_position")),
            "{rules:?}"
        );
        assert!(
            rules.contains(&json!("everyone_has_an_outcome")),
            "{rules:?}"
        );
        forget_shows(&arena.pool).await;
    });
}

fn rules_of<T, R: Clone>(violations: &[T], rule: impl Fn(&T) -> &R) -> Vec<R> {
    violations.iter().map(|it| rule(it).clone()).collect()
}

/// Takes shows that were broken on purpose away from the harness, which would find them broken.
async fn forget_shows(pool: &PgPool) {
    pool.execute("delete from show_intake").await.unwrap();
}

/// What can be broken, by which statements, and the rule that must name it. `$` is a place of the
/// show under test: seats 0 and 1 are booked at position 1, seat 2 is held at position 2, two places
/// of the floor are held at position 3, position 4 was rejected.
const SABOTAGE: [(&str, &str); 17] = [
    (
        "no_seat_twice",
        "drop index hold_seats_once;
        insert into hold_seats (show_id, hold_id, seat_no)
        select show_id, hold_id, 0 from holds where position = 2",
    ),
    (
        "seats_equal_holds",
        "update seats set status = 'available', hold_id = null where seat_no = 2",
    ),
    (
        "seats_equal_holds",
        "update seats set status = 'held' where seat_no = 0",
    ),
    (
        "holds_equal_their_seats",
        "update hold_seats set released_at = now() where seat_no = 1",
    ),
    (
        "section_counters_equal_holds",
        "update sections set held = held - 1 where name = 'A'",
    ),
    (
        "section_counters_equal_holds",
        "update sections set booked = booked + 1 where name = 'FLOOR'",
    ),
    (
        "buyer_totals_equal_holds",
        "update buyer_totals set held = held + 1 where buyer_id = 'bob'",
    ),
    (
        "buyer_totals_equal_holds",
        "update shows set buyer_limit = 1",
    ),
    (
        "positions_without_gaps",
        "update show_intake set last_position = last_position + 1",
    ),
    (
        "one_request_per_key",
        "alter table booking_requests drop constraint booking_requests_key_once;
        update booking_requests set buyer_id = 'bob', idempotency_key = 'the same key'",
    ),
    (
        "one_outcome_per_position",
        "delete from outcomes where position = 4",
    ),
    (
        "no_outcome_ahead_of_the_line",
        "update show_progress set decided_through = decided_through - 1",
    ),
    (
        "outcomes_in_order",
        "update outcomes set decided_at = decided_at - interval '1 hour' where position = 3",
    ),
    (
        "holds_equal_outcomes",
        "update outcomes set state = 'rejected', reason = 'sold_out', hold_id = null
        where position = 2",
    ),
    (
        "totals_equal_prices",
        "update holds set total = total + 1 where position = 1",
    ),
    (
        "totals_equal_prices",
        "update holds set fees = fees + 1 where position = 3",
    ),
    ("bookings_equal_confirmed_holds", "delete from bookings"),
];

#[test]
fn the_checker_names_every_kind_of_breach() {
    run(async |arena| {
        let show_id = show_with_a_past(arena).await;
        find_all(arena, show_id, &SABOTAGE).await;
    });
}

/// Makes every breach in turn, sees that its rule names it, and takes it back.
async fn find_all(arena: &Arena, show_id: Uuid, sabotage: &[(&'static str, &'static str)]) {
    // One connection, so that a transaction around each breach takes it back.
    let options = PgPoolOptions::new().max_connections(1);
    let pool = options.connect(&arena.database_url()).await.unwrap();
    assert_eq!(checker::check(&pool, show_id).await.unwrap(), []);
    for &(rule, statements) in sabotage {
        pool.execute("begin").await.unwrap();
        pool.execute(statements).await.unwrap();
        let violations = checker::check(&pool, show_id).await.unwrap();
        let rules = rules_of(&violations, |violation| &violation.rule);
        assert!(rules.contains(&rule), "{statements}: {rules:?}");
        pool.execute("rollback").await.unwrap();
        assert_eq!(checker::check(&pool, show_id).await.unwrap(), []);
    }
    pool.close().await;
}

#[test]
fn the_checker_tells_those_who_wait_from_those_who_were_forgotten() {
    run(async |arena| {
        let show_id = open_floors(&arena.pool, 1, 5).await[0];
        let wishes = json!([{"general_admission": {"section": 0, "quantity": 1}}]);
        join_lines(&arena.pool, &[show_id], 3, &wishes).await;
        assert_eq!(checker::check(&arena.pool, show_id).await.unwrap(), []);
        let violations = checker::check_drained(&arena.pool, show_id).await.unwrap();
        let rules = rules_of(&violations, |violation| &violation.rule);
        assert_eq!(rules, ["everyone_has_an_outcome"]);
    });
}

/// A show in which something of every kind has happened: see [`SABOTAGE`].
async fn show_with_a_past(arena: &Arena) -> Uuid {
    let (_api, client) = arena.api(&[]).await;
    let _worker = arena.worker(&[]).await;
    let hall = show([seated("A", 1, 4), floor("FLOOR", 10)]);
    let id = client.open_show(&hall).await;
    let alice = client.buyer("alice");
    let won = alice
        .ask(&id, json!([{"kind": "seats", "seats": ["A-1-1", "A-1-2"]}]))
        .await;
    let hold = won["hold"]["id"].as_str().expect("alice has a hold");
    alice.confirm(&id, hold).await.expect(200);
    for wish in [
        json!({"kind": "seats", "seats": ["A-1-3"]}),
        json!({"kind": "general_admission", "section": "FLOOR", "quantity": 2}),
    ] {
        let won = client.buyer("bob").ask(&id, json!([wish])).await;
        assert_eq!(won["state"], "held");
    }
    let lost = client
        .buyer("carol")
        .ask(&id, json!([{"kind": "seats", "seats": ["A-1-1"]}]))
        .await;
    assert_eq!(lost["state"], "rejected");
    id.parse().unwrap()
}
