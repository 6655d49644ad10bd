//! Outcomes for those who wait: one LISTEN for the process, one query for all whom a turn answers.
//!
//! A waiter registers, then reads, then waits, so nothing that commits in between is missed. NOTIFY
//! only makes it fast: a slow poll finds the same. A waiter costs no connection and no timer but that
//! of its own deadline.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use stampede_shared::{
    domain::Position,
    store::{
        Database,
        notify::{self, Told},
        request_status::{self, RequestStatus},
    },
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use uuid::Uuid;

use crate::{
    lookups::{FindError, Lookups},
    waiters::Waiters,
    watermarks::Watermarks,
};

/// How often the line is looked at without a notification.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Every so many polls, those who wait for a change after the decision are looked at too.
const POLLS_PER_SLOW_POLL: u64 = 5;

/// The most requests that one query answers.
const POSITIONS_PER_QUERY: usize = 1000;

/// The most who may wait in this process; the others are answered at once, with what is known.
const WAITERS_MAX: usize = 100_000;

/// Finds requests and waits for what becomes of them.
#[derive(Debug, Clone)]
pub struct Outcomes {
    database: Database,
    watermarks: Watermarks,
    waiters: Arc<Waiters>,
    reads: Lookups<RequestStatus>,
}

impl Outcomes {
    /// Starts to listen and to poll, until `stop`.
    pub fn new(database: Database, watermarks: Watermarks, stop: CancellationToken) -> Outcomes {
        let outcomes = Outcomes {
            reads: Lookups::new(database.clone()),
            database,
            watermarks,
            waiters: Arc::default(),
        };
        let (listening, polling) = (outcomes.clone(), outcomes.clone());
        tokio::spawn(
            stop.clone()
                .run_until_cancelled_owned(async move { listening.listen().await }),
        );
        tokio::spawn(stop.run_until_cancelled_owned(async move { polling.poll().await }));
        outcomes
    }

    /// The request of that id; `None` when there is none or it is another buyer's.
    pub async fn find(
        &self,
        show_id: Uuid,
        request_id: Uuid,
        buyer_id: &str,
    ) -> Result<Option<RequestStatus>, FindError> {
        let found = self.reads.find(show_id, request_id).await?;
        Ok(found.filter(|status| status.buyer_id == buyer_id))
    }

    /// Waits until the request is no longer as it was `seen`, or until the deadline. Returns what it
    /// is then.
    pub async fn wait(
        &self,
        show_id: Uuid,
        seen: &RequestStatus,
        deadline: Instant,
    ) -> Result<Option<RequestStatus>, FindError> {
        let deadline = tokio::time::Instant::from_std(deadline);
        loop {
            if self.waiters.len() >= WAITERS_MAX {
                return Ok(Some(seen.clone()));
            }
            let decided = seen.decided.is_some();
            let mut waiter = self.waiters.register(show_id, seen.position, decided);
            let current = self.find(show_id, seen.request_id, &seen.buyer_id).await?;
            if current.as_ref() != Some(seen) {
                return Ok(current);
            }
            tokio::select! {
                () = tokio::time::sleep_until(deadline) => return Ok(current),
                told = waiter.told() => match told {
                    Some(status) if status != *seen => return Ok(Some(status)),
                    _ => {}
                },
            }
        }
    }

    async fn listen(&self) {
        loop {
            match self.database.listen(notify::TOLD).await {
                Ok(mut listener) => {
                    while let Ok(notification) = listener.try_recv().await {
                        let Some(notification) = notification else {
                            debug!("the listening connection was lost; it is made again");
                            continue;
                        };
                        // All that has arrived goes into one look at the waiters.
                        let mut told = vec![notification];
                        told.extend(std::iter::from_fn(|| listener.next_buffered()));
                        let told = told.iter().filter_map(|it| Told::parse(it.payload()));
                        self.hear(told.collect()).await;
                    }
                }
                Err(error) => debug!(%error, "cannot listen; polling alone"),
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    async fn hear(&self, told: Vec<Told>) {
        let mut shows = HashSet::new();
        for told in told {
            match told {
                Told::Decided { show_id, through } => {
                    self.waiters.ring_line(show_id, through);
                    shows.insert(show_id);
                }
                Told::Changed { show_id, positions } => {
                    self.waiters.ring(show_id, &positions);
                    shows.insert(show_id);
                }
                Told::Sale { show_id } => self.watermarks.forget(show_id),
            }
        }
        for show_id in shows {
            self.answer(show_id).await;
        }
    }

    async fn poll(&self) {
        for round in 1_u64.. {
            tokio::time::sleep(POLL_INTERVAL).await;
            metrics::gauge!("stampede_waiters").set(self.waiters.len() as f64);
            for show_id in self.waiters.shows() {
                match self.watermarks.get(show_id).await {
                    Ok(Some(watermark)) => {
                        self.waiters.ring_line(show_id, watermark.decided_through);
                    }
                    Ok(None) => {}
                    Err(error) => {
                        warn!(show.id = %show_id, %error, "cannot poll for outcomes");
                        continue;
                    }
                }
                if round % POLLS_PER_SLOW_POLL == 0 {
                    self.waiters.ring_all(show_id);
                }
                self.answer(show_id).await;
            }
        }
    }

    /// Tells all whose bell has rung what has become of their requests.
    async fn answer(&self, show_id: Uuid) {
        let positions: Vec<Position> = self.waiters.rung(show_id);
        for positions in positions.chunks(POSITIONS_PER_QUERY) {
            let found = async {
                let mut tx = self.database.begin().await?;
                let found = request_status::find_by_positions(&mut tx, show_id, positions).await?;
                tx.commit().await?;
                Ok::<_, sqlx::Error>(found)
            };
            match found.await {
                Ok(found) => self.waiters.tell(show_id, found),
                // They stay registered; the next poll rings again.
                Err(error) => warn!(show.id = %show_id, %error, "cannot read outcomes"),
            }
        }
    }
}
