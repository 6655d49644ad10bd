//! How many submissions per second get their durable 202 over HTTP, beside a bare HTTP server that
//! commits the same rows.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use chrono::Utc;
use stampede_flood::{
    calls::{Calls, Minter},
    client::{Call, Pool, Target},
};
use stampede_shared::store::Database;
use uuid::Uuid;

use crate::{
    bare_server::BareServer,
    figures::{Figure, Latencies},
    hall::{create_show, pause},
    product::Product,
};

/// Clients that submit at once, each on a connection of its own.
pub const CONNECTIONS: usize = 64;

/// What every submission asks for: its body, and the form in which the log has it.
const BODY: &str = r#"{"wishes":[{"kind":"seats","seats":["S0-10","S0-11"]}]}"#;
const WISHES: &str = r#"[{"seats":[10,11]}]"#;

/// The product and the bare server, in turn, for `duration` each; and the latency of one lone client.
pub async fn measure(
    database: &Database,
    product: &Product,
    rounds: usize,
    duration: Duration,
) -> Result<Accept> {
    let mut figure = Figure::default();
    let mut latencies = Latencies::default();
    for _ in 0..rounds {
        // Nobody decides here; the pause only makes that certain.
        let show_id = create_show(database, 1, 1000).await?;
        pause(database, show_id).await?;
        let load = Load::new(&product.url, product.minter(), show_id, CONNECTIONS)?;
        figure.add(load.run(duration, &mut latencies).await?);

        let show_id = create_show(database, 1, 1000).await?;
        let bare = BareServer::start(database.clone(), show_id, WISHES.into()).await?;
        let url = format!("http://{}", bare.address);
        let load = Load::new(&url, product.minter(), show_id, CONNECTIONS)?;
        figure.add_limit(load.run(duration, &mut Latencies::default()).await?);
    }
    let show_id = create_show(database, 1, 1000).await?;
    pause(database, show_id).await?;
    let mut alone = Latencies::default();
    let load = Load::new(&product.url, product.minter(), show_id, 1)?;
    load.run(duration, &mut alone).await?;
    Ok(Accept {
        figure,
        latencies,
        alone,
    })
}

/// What was measured.
pub struct Accept {
    pub figure: Figure,
    /// At [`CONNECTIONS`] clients.
    pub latencies: Latencies,
    /// Of a client that is alone.
    pub alone: Latencies,
}

/// Clients that submit as fast as they are answered.
struct Load {
    pool: Arc<Pool>,
    minter: Arc<Minter>,
    calls: Calls,
    connections: usize,
    next_buyer: Arc<AtomicU64>,
}

impl Load {
    fn new(url: &str, minter: Arc<Minter>, show_id: Uuid, connections: usize) -> Result<Load> {
        let pool = Arc::new(Pool::new(Target::parse(url)?, connections));
        let calls = Calls::new(show_id);
        Ok(Load {
            pool,
            minter,
            calls,
            connections,
            next_buyer: Arc::default(),
        })
    }

    /// Accepted per second.
    async fn run(&self, duration: Duration, latencies: &mut Latencies) -> Result<f64> {
        // Connections, plans and caches are warm when it counts.
        self.submit_for(duration / 5).await?;
        let started = Instant::now();
        let measured = self.submit_for(duration).await?;
        let per_s = measured.count() as f64 / started.elapsed().as_secs_f64();
        latencies.add(&measured)?;
        Ok(per_s)
    }

    async fn submit_for(&self, duration: Duration) -> Result<Latencies> {
        let until = Instant::now() + duration;
        let clients: Vec<_> = (0..self.connections)
            .map(|_| {
                let (pool, minter) = (Arc::clone(&self.pool), Arc::clone(&self.minter));
                let (calls, next_buyer) = (self.calls.clone(), Arc::clone(&self.next_buyer));
                tokio::spawn(async move {
                    let mut latencies = Latencies::default();
                    while Instant::now() < until {
                        let number = next_buyer.fetch_add(1, Ordering::Relaxed);
                        let call = submission(&minter, &calls, number)?;
                        let started = Instant::now();
                        let answer = pool.call(&call).await?;
                        ensure!(answer.status == 202, "a submission got {}", answer.status);
                        latencies.record(started.elapsed())?;
                    }
                    Ok(latencies)
                })
            })
            .collect();
        let mut all = Latencies::default();
        for client in clients {
            all.add(&client.await??)?;
        }
        Ok(all)
    }
}

/// A submission of a buyer of its own.
pub fn submission(minter: &Minter, calls: &Calls, number: u64) -> Result<Call> {
    let who = minter.mint(&format!("buyer-{number}"))?;
    let key = format!("{}-{number}", Utc::now().timestamp_micros());
    calls.submit(&who, &key, BODY.into())
}
