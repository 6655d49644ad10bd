//! The desk: gives requests and holds back for buyers, a batch a transaction, under the inventory lock.
//!
//! Calls are applied in their order, each to what the one before it left, so that cancel against
//! payment, expiry, or the request's own turn has one winner. All of them may be repeated.

use std::collections::HashMap;

use stampede_shared::{
    domain::{
        Position,
        hold::{HoldRefusal, HoldState},
    },
    group_commit::GroupCommit,
    retry::retry,
    settle,
    store::{
        Database,
        error::is_transient,
        holds::{self, Subject},
        show_inventory,
    },
};
use uuid::Uuid;

/// Why nothing was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeskRefusal {
    /// There is none, or it is another buyer's.
    NotFound,
    AlreadyConfirmed,
    /// A payment for the hold is in flight.
    Paying,
    /// This process has too many calls in hand.
    Overloaded,
    /// The database is away; the call may be repeated.
    Unavailable,
}

impl From<HoldRefusal> for DeskRefusal {
    fn from(refusal: HoldRefusal) -> DeskRefusal {
        match refusal {
            HoldRefusal::AlreadyConfirmed => DeskRefusal::AlreadyConfirmed,
            HoldRefusal::Paying => DeskRefusal::Paying,
        }
    }
}

#[derive(Debug, Clone)]
struct Call {
    buyer_id: String,
    about: About,
}

#[derive(Debug, Clone, Copy)]
enum About {
    Hold(Uuid),
    Request(Uuid),
}

/// The id of the request that the call was about.
type Answer = Result<Uuid, DeskRefusal>;

/// Does what buyers say about their requests and holds.
#[derive(Debug, Clone)]
pub struct Desk {
    batches: GroupCommit<Call, Answer>,
}

impl Desk {
    pub fn new(database: Database) -> Desk {
        let batches = GroupCommit::new(move |show_id, calls| {
            let database = database.clone();
            async move { process(&database, show_id, &calls).await }
        });
        Desk { batches }
    }

    /// Gives a hold back. Returns its request's id.
    pub async fn cancel_hold(&self, show_id: Uuid, hold_id: Uuid, buyer_id: &str) -> Answer {
        self.call(show_id, buyer_id, About::Hold(hold_id)).await
    }

    /// Leaves the line, or gives the request's hold back.
    pub async fn cancel_request(
        &self,
        show_id: Uuid,
        request_id: Uuid,
        buyer_id: &str,
    ) -> Result<(), DeskRefusal> {
        self.call(show_id, buyer_id, About::Request(request_id))
            .await
            .map(drop)
    }

    async fn call(&self, show_id: Uuid, buyer_id: &str, about: About) -> Answer {
        let call = Call {
            buyer_id: buyer_id.to_owned(),
            about,
        };
        match self.batches.call(show_id, call).await {
            Ok(answer) => answer,
            Err(_) => Err(DeskRefusal::Overloaded),
        }
    }
}

/// Every call may be repeated, so a batch whose commit is unknown is simply done again.
async fn process(database: &Database, show_id: Uuid, calls: &[Call]) -> Vec<Answer> {
    retry(show_id, "desk", is_transient, || {
        process_once(database, show_id, calls)
    })
    .await
    .unwrap_or_else(|| vec![Err(DeskRefusal::Unavailable); calls.len()])
}

async fn process_once(
    database: &Database,
    show_id: Uuid,
    calls: &[Call],
) -> sqlx::Result<Vec<Answer>> {
    let mut tx = database.begin().await?;
    let Some(mut locked) = show_inventory::lock(&mut tx, show_id).await? else {
        return Ok(vec![Err(DeskRefusal::NotFound); calls.len()]);
    };
    let (mut hold_ids, mut request_ids) = (Vec::new(), Vec::new());
    for call in calls {
        match call.about {
            About::Hold(hold_id) => hold_ids.push(hold_id),
            About::Request(request_id) => request_ids.push(request_id),
        }
    }
    let mut found = holds::find_by_holds(&mut tx, show_id, &hold_ids).await?;
    found.extend(holds::find_by_requests(&mut tx, show_id, &request_ids).await?);
    let mut ledger = Ledger::new(found, locked.now);
    let answers: Vec<Answer> = calls.iter().map(|call| ledger.apply(call)).collect();

    let Changes { cancel, withdraw } = ledger.changes;
    let cancelled =
        settle::release(&mut tx, show_id, &cancel, HoldState::Cancelled, &mut locked).await?;
    if !withdraw.is_empty() {
        settle::withdraw(&mut tx, show_id, &withdraw, &locked).await?;
    }
    tx.commit().await?;
    metrics::counter!("stampede_holds_ended_total", "state" => "cancelled")
        .increment(cancelled as u64);
    metrics::counter!("stampede_outcomes_total", "state" => "cancelled", "reason" => "")
        .increment(withdraw.len() as u64);
    Ok(answers)
}

/// The requests of a batch as they stand while its calls are applied. No SQL.
struct Ledger {
    standings: HashMap<Uuid, Standing>,
    request_of_hold: HashMap<Uuid, Uuid>,
    changes: Changes,
}

#[derive(Debug, Default)]
struct Changes {
    cancel: Vec<Uuid>,
    withdraw: Vec<Position>,
}

struct Standing {
    buyer_id: String,
    position: Position,
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    InLine,
    Held {
        hold_id: Uuid,
        state: HoldState,
        paying: bool,
    },
    /// Rejected, quarantined, or gone from the line: nothing to give back.
    Over,
}

impl Ledger {
    fn new(found: Vec<Subject>, now: chrono::DateTime<chrono::Utc>) -> Ledger {
        let mut standings = HashMap::new();
        let mut request_of_hold = HashMap::new();
        for subject in found {
            let hold = subject.hold_id.zip(subject.kept_until);
            let hold_state = subject.hold_state.as_deref().and_then(HoldState::parse);
            let state = match (subject.outcome, hold.zip(hold_state)) {
                (None, _) => State::InLine,
                (Some(_), Some(((hold_id, kept_until), state))) => {
                    request_of_hold.insert(hold_id, subject.request_id);
                    State::Held {
                        hold_id,
                        state: state.at(kept_until, now),
                        paying: subject.paying,
                    }
                }
                (Some(_), None) => State::Over,
            };
            let (buyer_id, position) = (subject.buyer_id, subject.position);
            standings.insert(
                subject.request_id,
                Standing {
                    buyer_id,
                    position,
                    state,
                },
            );
        }
        Ledger {
            standings,
            request_of_hold,
            changes: Changes::default(),
        }
    }

    fn apply(&mut self, call: &Call) -> Answer {
        let request_id = match call.about {
            About::Hold(hold_id) => self.request_of_hold.get(&hold_id).copied(),
            About::Request(request_id) => Some(request_id),
        };
        let request_id = request_id.ok_or(DeskRefusal::NotFound)?;
        let standing = self
            .standings
            .get_mut(&request_id)
            .filter(|standing| standing.buyer_id == call.buyer_id)
            .ok_or(DeskRefusal::NotFound)?;
        match standing.state {
            State::InLine => {
                self.changes.withdraw.push(standing.position);
                standing.state = State::Over;
            }
            State::Over => {}
            State::Held {
                hold_id,
                state,
                paying,
            } => {
                let next = state.cancel(paying)?;
                if next == HoldState::Cancelled && next != state {
                    self.changes.cancel.push(hold_id);
                }
                standing.state = State::Held {
                    hold_id,
                    state: next,
                    paying,
                };
            }
        }
        Ok(request_id)
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    const NOW: DateTime<chrono::Utc> = DateTime::UNIX_EPOCH;

    fn hold(state: &str, paying: bool) -> Subject {
        Subject {
            request_id: Uuid::from_u128(1),
            position: 1,
            buyer_id: "a".into(),
            outcome: Some("held".into()),
            hold_id: Some(Uuid::from_u128(2)),
            hold_state: Some(state.into()),
            kept_until: Some(NOW + chrono::TimeDelta::milliseconds(1)),
            paying,
        }
    }

    fn call(buyer_id: &str) -> Call {
        Call {
            buyer_id: buyer_id.into(),
            about: About::Hold(Uuid::from_u128(2)),
        }
    }

    #[test]
    fn cancelling_may_be_repeated_and_gives_back_once() {
        let mut ledger = Ledger::new(vec![hold("held", false)], NOW);
        assert!(ledger.apply(&call("a")).is_ok());
        assert!(ledger.apply(&call("a")).is_ok());
        assert_eq!(ledger.changes.cancel.len(), 1);
    }

    #[test]
    fn what_is_paid_or_being_paid_is_not_cancelled_here() {
        let mut ledger = Ledger::new(vec![hold("confirmed", false)], NOW);
        assert_eq!(ledger.apply(&call("a")), Err(DeskRefusal::AlreadyConfirmed));
        let mut ledger = Ledger::new(vec![hold("held", true)], NOW);
        assert_eq!(ledger.apply(&call("a")), Err(DeskRefusal::Paying));
        assert!(ledger.changes.cancel.is_empty());
    }

    #[test]
    fn another_buyers_hold_is_not_found() {
        let mut ledger = Ledger::new(vec![hold("held", false)], NOW);
        assert_eq!(ledger.apply(&call("b")), Err(DeskRefusal::NotFound));
        assert!(ledger.changes.cancel.is_empty());
    }
}
