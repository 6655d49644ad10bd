//! Requests that cannot be decided are set aside, one by one; everybody else notices nothing.

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{Executor, PgPool};
use uuid::Uuid;

use crate::harness::{
    Arena, decided_through, eventually, floor, join_lines, open_floors, run, show,
};

/// Bisecting takes a dozen turns a request, milliseconds each.
const LIMIT: Duration = Duration::from_secs(20);

async fn join_line(pool: &PgPool, show: Uuid, requests: i32) {
    let wishes = json!([{"general_admission": {"section": 0, "quantity": 1}}]);
    join_lines(pool, &[show], requests, &wishes).await;
}

/// Positions by the state of their outcome, in order.
async fn positions(pool: &PgPool, state: &str) -> Vec<i64> {
    sqlx::query_scalar("select position from outcomes where state = $1 order by position")
        .bind(state)
        .fetch_all(pool)
        .await
        .unwrap()
}

/// Waits until `through` is decided; those at `set_aside` must be quarantined, all others held.
async fn assert_set_aside(arena: &Arena, show: Uuid, through: i64, set_aside: &[i64]) {
    eventually(LIMIT, async || {
        decided_through(&arena.pool, show).await == through
    })
    .await;
    assert_eq!(positions(&arena.pool, "quarantined").await, set_aside);
    let others = (1..=through).filter(|position| !set_aside.contains(position));
    assert_eq!(
        positions(&arena.pool, "held").await,
        others.collect::<Vec<_>>()
    );
}

#[test]
fn a_request_that_panics_is_found_and_set_aside() {
    run(async |arena| {
        let show = open_floors(&arena.pool, 1, 2_000).await[0];
        join_line(&arena.pool, show, 700).await;
        // One alone, two neighbours, and the last of the line.
        let poison = [97, 300, 301, 700];
        sqlx::query("update booking_requests set buyer_id = 'poison' where position = any($1)")
            .bind(&poison[..])
            .execute(&arena.pool)
            .await
            .unwrap();
        let mut worker = arena.worker_failing("decide_request=panic", &[]).await;
        assert_set_aside(arena, show, 700, &poison).await;

        // The same process goes on with whole turns.
        join_line(&arena.pool, show, 500).await;
        assert_set_aside(arena, show, 1_200, &poison).await;
        let turns = "select count(distinct decided_at) from outcomes where position > 700";
        let turns: i64 = sqlx::query_scalar(turns)
            .fetch_one(&arena.pool)
            .await
            .unwrap();
        assert!(turns < 15, "{turns} turns");
        worker.stop().await;
    });
}

#[test]
fn the_buyer_of_a_quarantined_request_is_told_and_the_others_wait_no_longer() {
    run(async |arena| {
        let (_api, client) = arena.api(&[]).await;
        let id = client.open_show(&show([floor("FLOOR", 10)])).await;
        let wishes = || json!([{"kind": "general_admission", "section": "FLOOR", "quantity": 1}]);
        let mut accepted = Vec::new();
        for name in ["before", "poison", "behind"] {
            let buyer = client.buyer(name);
            let request = buyer
                .submit(&id, &json!({ "wishes": wishes() }))
                .await
                .expect(202);
            accepted.push((buyer, request["id"].as_str().unwrap().to_owned()));
        }
        let _worker = arena.worker_failing("decide_request=panic", &[]).await;
        let mut states = Vec::new();
        for (buyer, request) in accepted {
            states.push(buyer.outcome(&id, &request).await["state"].clone());
        }
        assert_eq!(states, ["held", "quarantined", "held"]);
        assert_eq!(
            client.buyer("later").ask(&id, wishes()).await["state"],
            "held"
        );
    });
}

#[test]
fn a_poisonous_request_that_left_the_line_harms_nobody() {
    run(async |arena| {
        let (_api, client) = arena.api(&[]).await;
        let id = client.open_show(&show([floor("FLOOR", 10)])).await;
        let wish = json!({"kind": "general_admission", "section": "FLOOR", "quantity": 1});
        let poison = client.buyer("poison");
        let request = poison
            .submit(&id, &json!({"wishes": [wish]}))
            .await
            .expect(202);
        let request = request["id"].as_str().unwrap();
        assert_eq!(
            poison.cancel(&id, request).await.expect(200)["state"],
            "cancelled"
        );
        let _worker = arena.worker_failing("decide_request=panic", &[]).await;
        let other = client.buyer("other").ask(&id, json!([wish])).await;
        assert_eq!(other["state"], "held");
        assert_eq!(
            poison.poll(&id, request, 0).await.expect(200)["state"],
            "cancelled"
        );
    });
}

#[test]
fn a_row_of_the_log_that_says_nothing_is_set_aside() {
    run(async |arena| {
        let show = open_floors(&arena.pool, 1, 100).await[0];
        join_line(&arena.pool, show, 60).await;
        let nonsense: [(i64, Value); 5] = [
            (5, json!({"nonsense": true})),
            (6, json!("wishes")),
            (20, json!(null)),
            (21, json!([{"seats": [4_711]}])),
            (
                60,
                json!([{"general_admission": {"section": 7, "quantity": 1}}]),
            ),
        ];
        for (position, wishes) in &nonsense {
            sqlx::query("update booking_requests set wishes = $2 where position = $1")
                .bind(position)
                .bind(wishes)
                .execute(&arena.pool)
                .await
                .unwrap();
        }
        let _worker = arena.worker(&[]).await;
        let positions: Vec<i64> = nonsense.iter().map(|(position, _)| *position).collect();
        assert_set_aside(arena, show, 60, &positions).await;
    });
}

#[test]
fn a_request_whose_statement_fails_is_set_aside() {
    run(async |arena| {
        let show = open_floors(&arena.pool, 1, 100).await[0];
        arena
            .pool
            .execute("alter table holds add check (buyer_id <> 'buyer-33')")
            .await
            .unwrap();
        join_line(&arena.pool, show, 60).await;
        let _worker = arena.worker(&[]).await;
        assert_set_aside(arena, show, 60, &[33]).await;
    });
}

#[test]
fn trouble_in_one_show_is_not_the_trouble_of_another() {
    run(async |arena| {
        let shows = open_floors(&arena.pool, 2, 500).await;
        for &show in &shows {
            join_line(&arena.pool, show, 200).await;
        }
        // One show is all poison.
        sqlx::query("update booking_requests set wishes = '{}' where show_id = $1")
            .bind(shows[0])
            .execute(&arena.pool)
            .await
            .unwrap();
        let _worker = arena.worker(&["--concurrency", "1"]).await;
        eventually(LIMIT, async || {
            decided_through(&arena.pool, shows[1]).await == 200
        })
        .await;
        assert!(decided_through(&arena.pool, shows[0]).await < 200);
        eventually(LIMIT, async || {
            decided_through(&arena.pool, shows[0]).await == 200
        })
        .await;
        let all: Vec<i64> = (1..=200).collect();
        assert_eq!(positions(&arena.pool, "quarantined").await, all);
        assert_eq!(positions(&arena.pool, "held").await, all);
    });
}
