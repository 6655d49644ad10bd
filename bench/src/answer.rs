//! How many long-polls per second are woken and answered once their turns have come.

use std::{sync::Arc, time::Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use stampede_flood::{
    calls::Calls,
    client::{Pool, Target},
};
use stampede_shared::store::Database;
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::{
    accept::submission,
    decide::decide_all,
    figures::Figure,
    hall::{create_show, pause, resume},
    product::Product,
};

/// How long every poll may wait; the turns come long before.
const WAIT_SECONDS: u32 = 30;

/// Submissions on their way at once, while the line is filled.
const SUBMITTING: usize = 64;

/// Lets `waiters` long-poll on a paused show, decides all at once, and counts until the last answer.
pub async fn measure(
    database: &Database,
    product: &Product,
    rounds: usize,
    waiters: usize,
) -> Result<Figure> {
    let mut figure = Figure::default();
    for _ in 0..rounds {
        figure.add(round(database, product, waiters).await?);
    }
    Ok(figure)
}

async fn round(database: &Database, product: &Product, waiters: usize) -> Result<f64> {
    let show_id = create_show(database, 1, 1000).await?;
    pause(database, show_id).await?;
    let pool = Arc::new(Pool::new(Target::parse(&product.url)?, waiters));
    let calls = Calls::new(show_id);
    let requests = submit_all(product, &pool, &calls, waiters).await?;

    let answered: Vec<_> = requests
        .into_iter()
        .map(|(number, request_id)| {
            let (pool, calls, minter) = (Arc::clone(&pool), calls.clone(), product.minter());
            tokio::spawn(async move {
                let who = minter.mint(&format!("buyer-{number}"))?;
                let answer = pool
                    .call(&calls.request_wait(&who, request_id, WAIT_SECONDS))
                    .await?;
                let body: Value = serde_json::from_slice(&answer.body)?;
                ensure!(
                    body["state"] != "queued",
                    "a poll ended before its turn: {body}"
                );
                Ok(Instant::now())
            })
        })
        .collect();
    if let Err(error) = product.wait_for_waiters(waiters).await {
        for answer in answered {
            if answer.is_finished() {
                answer.await??;
            }
        }
        return Err(error);
    }

    resume(database, show_id).await?;
    let started = Instant::now();
    decide_all(database, show_id).await?;
    let mut last = started;
    for answer in answered {
        last = last.max(answer.await??);
    }
    Ok(waiters as f64 / (last - started).as_secs_f64())
}

async fn submit_all(
    product: &Product,
    pool: &Arc<Pool>,
    calls: &Calls,
    count: usize,
) -> Result<Vec<(u64, Uuid)>> {
    let places = Arc::new(Semaphore::new(SUBMITTING));
    let submitted: Vec<_> = (0..count as u64)
        .map(|number| {
            let (pool, calls, minter) = (Arc::clone(pool), calls.clone(), product.minter());
            let places = Arc::clone(&places);
            tokio::spawn(async move {
                let _place = places.acquire().await?;
                let answer = pool.call(&submission(&minter, &calls, number)?).await?;
                ensure!(answer.status == 202, "a submission got {}", answer.status);
                let body: Value = serde_json::from_slice(&answer.body)?;
                let request_id = body["id"].as_str().context("a 202 has an id")?.parse()?;
                Ok((number, request_id))
            })
        })
        .collect();
    let mut requests = Vec::with_capacity(count);
    for submission in submitted {
        requests.push(submission.await??);
    }
    Ok(requests)
}
