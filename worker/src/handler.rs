//! The apalis handler: takes a turn, and copes when it fails.
//!
//! A turn that fails for what is in it is halved and tried again until one request is left; that one
//! is quarantined and the show goes on. Halves that succeed commit, so this is a bisection. A turn
//! that fails for the database is put off, with the show, and nothing else.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use apalis::prelude::Data;
use stampede_shared::{queue::ShowTurn, store::Database};
use tracing::{debug, error, warn};
use uuid::Uuid;

use crate::turn::{TurnError, TurnResult, TurnTaker};

/// How long a show is left to the worker that has it before this process looks again.
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// How long a show rests after the database failed its turn.
const TRANSIENT_PAUSE: Duration = Duration::from_millis(200);

/// Takes turns and remembers which shows are in trouble.
#[derive(Debug, Clone)]
pub struct TurnHandler {
    turns: TurnTaker,
    turn_size: u32,
    /// How many requests the next turn may have, of shows where the last one failed.
    limits: Arc<Mutex<HashMap<Uuid, u32>>>,
}

impl TurnHandler {
    pub fn new(database: Database, turn_size: u32) -> TurnHandler {
        TurnHandler {
            turns: TurnTaker::new(database),
            turn_size,
            limits: Arc::default(),
        }
    }

    /// Takes a turn, and returns how long the show should rest.
    async fn take(&self, show_id: Uuid) -> Duration {
        let limit = self.limit(show_id);
        let turns = self.turns.clone();
        // A task of its own: a panic is caught with it, and nothing that drops the handler can drop
        // a transaction in the middle.
        let turn = tokio::spawn(async move { turns.decide(show_id, limit).await });
        match turn.await {
            Ok(Ok(TurnResult::Busy)) => BUSY_PAUSE,
            Ok(Ok(result)) => {
                if let TurnResult::Decided { decided, more } = result {
                    debug!(show.id = %show_id, decided, more, "turn");
                    self.recover(show_id, limit);
                }
                Duration::ZERO
            }
            Ok(Err(TurnError::Transient(error))) => {
                warn!(show.id = %show_id, %error, "turn failed; trying again");
                TRANSIENT_PAUSE
            }
            Ok(Err(TurnError::StaleInventory)) => {
                error!(show.id = %show_id, "seats were changed past the lock; reading them again");
                Duration::ZERO
            }
            Ok(Err(TurnError::Failed(error))) => {
                warn!(show.id = %show_id, limit, %error, "turn failed");
                self.bisect(show_id, limit).await
            }
            Err(panic) => {
                warn!(show.id = %show_id, limit, %panic, "turn panicked");
                self.bisect(show_id, limit).await
            }
        }
    }

    async fn bisect(&self, show_id: Uuid, limit: u32) -> Duration {
        if limit > 1 {
            self.set_limit(show_id, limit / 2);
            return Duration::ZERO;
        }
        let turns = self.turns.clone();
        match tokio::spawn(async move { turns.quarantine(show_id).await }).await {
            Ok(Ok(_)) => {
                error!(show.id = %show_id, "a request cannot be decided and was quarantined");
                metrics::counter!(
                    "stampede_outcomes_total", "state" => "quarantined", "reason" => "technical"
                )
                .increment(1);
                Duration::ZERO
            }
            Ok(Err(error)) => {
                error!(show.id = %show_id, %error, "quarantining failed; trying again");
                TRANSIENT_PAUSE
            }
            Err(panic) => {
                error!(show.id = %show_id, %panic, "quarantining panicked; trying again");
                TRANSIENT_PAUSE
            }
        }
    }

    fn limit(&self, show_id: Uuid) -> u32 {
        self.limits()
            .get(&show_id)
            .copied()
            .unwrap_or(self.turn_size)
    }

    fn set_limit(&self, show_id: Uuid, limit: u32) {
        self.limits().insert(show_id, limit);
    }

    /// A turn of `limit` went well: dare twice as much.
    fn recover(&self, show_id: Uuid, limit: u32) {
        if limit < self.turn_size {
            let limit = limit.saturating_mul(2);
            if limit < self.turn_size {
                self.set_limit(show_id, limit);
            } else {
                self.limits().remove(&show_id);
            }
        }
    }

    fn limits(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, u32>> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Handles one task of the queue.
pub async fn handle_turn(turn: ShowTurn, handler: Data<TurnHandler>) {
    let handler = (*handler).clone();
    // The turn stays taken until its transaction is over and its pause has passed, even if the
    // timeout layer has given up on it; the pause takes no place among the concurrent turns.
    let taken = tokio::spawn(async move {
        let pause = handler.take(turn.show_id).await;
        (turn, pause)
    });
    if let Ok((turn, pause)) = taken.await
        && !pause.is_zero()
    {
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            drop(turn);
        });
    }
}
