//! Postgres goes down in the middle of a flood: the API and the workers outlive it, and the line is
//! as it would have been.

use std::time::Duration;

use serde_json::json;

use crate::{
    crashes::{progress, waiters},
    flood::Flood,
    harness::{decided_through, eventually, floor, run_with_own_postgres, show},
};

/// The database recovers in well under a second, and back-offs end after two.
const RECOVERY_LIMIT: Duration = Duration::from_secs(20);

#[test]
fn a_flood_through_crashes_of_postgres_loses_and_doubles_nothing() {
    run_with_own_postgres(async |arena| {
        let (mut api, client) = arena.api(&[]).await;
        let mut workers = [arena.worker(&[]).await, arena.worker(&[]).await];
        let arguments = [
            "--requests",
            "3000",
            "--arrivals",
            "poisson",
            "--rate",
            "500",
        ];
        let mut flood = Flood::start(arena, &client.url, &arguments);
        let mut crashes = 0;
        let mut given = 0;
        while flood.goes_on().await {
            // Nobody but the test may be sure of the database.
            let Ok(now) = progress(&arena.pool).await else {
                continue;
            };
            if now.0 > given + 600 {
                arena.crash_postgres().await;
                given = now.0;
                crashes += 1;
            }
        }
        assert!(crashes >= 3, "only {crashes} crashes");
        flood.end_clean().await;
        assert!(api.is_running());
        api.stop().await;
        for worker in &mut workers {
            assert!(worker.is_running());
            worker.stop().await;
        }
    });
}

#[test]
fn long_polls_are_answered_after_a_crash_of_postgres() {
    run_with_own_postgres(async |arena| {
        let (_api, client) = arena.api(&[]).await;
        let hall = show([floor("FLOOR", 10)]);
        let id = client.open_show(&hall).await;
        client.sale(&id, "pause").await.expect(200);
        let buyer = client.buyer("patient");
        let wish = json!({"kind": "general_admission", "section": "FLOOR", "quantity": 1});
        let accepted = buyer.submit(&id, &json!({"wishes": [wish]})).await;
        let request = accepted.expect(202)["id"].as_str().unwrap().to_owned();
        let worker = arena.worker(&[]).await;
        let poll = tokio::spawn({
            let (buyer, id) = (buyer.clone(), id.clone());
            async move { buyer.outcome(&id, &request).await }
        });
        eventually(RECOVERY_LIMIT, async || waiters(&client).await == Some(1)).await;
        arena.crash_postgres().await;
        eventually(RECOVERY_LIMIT, async || {
            client.get("/readyz").await.status == 200
        })
        .await;
        client.sale(&id, "resume").await.expect(200);
        assert_eq!(poll.await.unwrap()["state"], "held");
        assert_eq!(decided_through(&arena.pool, id.parse().unwrap()).await, 1);
        drop(worker);
    });
}
