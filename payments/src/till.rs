//! The till: how a payment comes to its end, whoever drives it.
//!
//! A payment is written down before the gateway hears of it (`open`). From then on it is *driven*: the
//! gateway is asked how the charge stands, one transaction takes that into our rows (`look`), and the
//! rows say what the gateway is to do next. Any process may drive any payment at any time, twice, or
//! after a crash: the rows move under the show's lock, and each step has an idempotency key at the
//! gateway. Calls of one show that come at the same time share a transaction (`batch`).

mod batch;
mod cancel;
mod drive;
mod look;
mod open;

use std::{sync::Arc, time::Duration};

use stampede_shared::{
    group_commit::GroupCommit,
    store::{Database, show_inventory},
};
use thiserror::Error;
use uuid::Uuid;

use crate::{crash, gateway::Gateway};
use batch::{Answer, Batch, Call};

pub use cancel::{By, Cancel, CancelRefusal, Cancelled};
pub use open::{Open, OpenRefusal, Opened};

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// How long a payment in flight keeps its seats beyond the end of the hold, at most.
    pub fence: Duration,
    /// A hold with less time left starts no payment.
    pub time_min: Duration,
    /// After so long without a move, a payment is looked up.
    pub stuck: Duration,
}

/// Nothing could be done; the call may be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TillError {
    #[error("too many calls wait already")]
    Overloaded,
    #[error("the database is away")]
    Unavailable,
    #[error("the gateway does not say how the charge stands")]
    NotSeen,
}

/// Takes payments for holds and gives them back. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Till {
    database: Database,
    gateway: Option<Arc<dyn Gateway>>,
    terms: Terms,
    batches: GroupCommit<Call, Answer>,
}

impl Till {
    /// Without a gateway, only what costs nothing can be confirmed.
    pub fn new(database: Database, gateway: Option<Arc<dyn Gateway>>, terms: Terms) -> Till {
        let batch = Batch {
            database: database.clone(),
            gateway: gateway.as_ref().map(|gateway| gateway.name()),
            terms,
        };
        let batches = GroupCommit::new(move |show_id, calls| {
            let batch = batch.clone();
            async move { batch.process(show_id, calls).await }
        });
        Till {
            database,
            gateway,
            terms,
            batches,
        }
    }

    pub fn gateway(&self) -> Option<&Arc<dyn Gateway>> {
        self.gateway.as_ref()
    }

    /// Writes down that a hold is to be paid; books it at once if there is nothing to pay.
    pub async fn open(
        &self,
        show_id: Uuid,
        open: Open,
    ) -> Result<Result<Opened, OpenRefusal>, TillError> {
        match self.call(show_id, Call::Open(open)).await? {
            Answer::Opened(opened) => Ok(opened),
            _ => Err(TillError::Unavailable),
        }
    }

    /// Cancels a booking and lets its money go back: [`Till::drive`] the payment that is returned.
    pub async fn cancel(
        &self,
        show_id: Uuid,
        cancel: Cancel,
    ) -> Result<Result<Cancelled, CancelRefusal>, TillError> {
        match self.call(show_id, Call::Cancel(cancel)).await? {
            Answer::Cancelled(cancelled) => Ok(cancelled),
            _ => Err(TillError::Unavailable),
        }
    }

    /// Cancels bookings, and ends holds, of a cancelled show: some, in one transaction. Returns whether
    /// there may be more. The refunds are left to recovery.
    pub async fn cancel_some_of_show(&self, show_id: Uuid) -> sqlx::Result<bool> {
        let mut tx = self.database.begin().await?;
        let Some(mut locked) = show_inventory::lock(&mut tx, show_id).await? else {
            return Ok(false);
        };
        let more = cancel::some_of_show(&mut tx, show_id, &self.terms, &mut locked).await?;
        crash::point("cancel_show_before_commit");
        tx.commit().await?;
        crash::point("cancel_show_after_commit");
        Ok(more)
    }

    async fn call(&self, show_id: Uuid, call: Call) -> Result<Answer, TillError> {
        match self.batches.call(show_id, call).await {
            Ok(Answer::Unavailable) => Err(TillError::Unavailable),
            Ok(answer) => Ok(answer),
            Err(_) => Err(TillError::Overloaded),
        }
    }
}
