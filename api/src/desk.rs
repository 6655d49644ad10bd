//! The desk: confirms and cancels for buyers, a batch a transaction, under the inventory lock.
//!
//! Calls are applied in their order, each to what the one before it left, so that confirm against
//! cancel, expiry, or the request's own turn has one winner. All of them may be repeated.

use std::collections::HashMap;

use stampede_shared::{
    domain::{
        Position,
        hold::{HoldCommand, HoldRefusal, HoldState},
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
    Expired,
    AlreadyCancelled,
    AlreadyConfirmed,
    /// This process has too many calls in hand.
    Overloaded,
    /// The database is away; the call may be repeated.
    Unavailable,
}

impl From<HoldRefusal> for DeskRefusal {
    fn from(refusal: HoldRefusal) -> DeskRefusal {
        match refusal {
            HoldRefusal::Expired => DeskRefusal::Expired,
            HoldRefusal::AlreadyCancelled => DeskRefusal::AlreadyCancelled,
            HoldRefusal::AlreadyConfirmed => DeskRefusal::AlreadyConfirmed,
        }
    }
}

#[derive(Debug, Clone)]
struct Call {
    buyer_id: String,
    about: About,
    command: HoldCommand,
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

    /// Books a hold. Returns its request's id.
    pub async fn confirm(&self, show_id: Uuid, hold_id: Uuid, buyer_id: &str) -> Answer {
        self.call(
            show_id,
            buyer_id,
            About::Hold(hold_id),
            HoldCommand::Confirm,
        )
        .await
    }

    /// Gives a hold back. Returns its request's id.
    pub async fn cancel_hold(&self, show_id: Uuid, hold_id: Uuid, buyer_id: &str) -> Answer {
        self.call(show_id, buyer_id, About::Hold(hold_id), HoldCommand::Cancel)
            .await
    }

    /// Leaves the line, or gives the request's hold back.
    pub async fn cancel_request(
        &self,
        show_id: Uuid,
        request_id: Uuid,
        buyer_id: &str,
    ) -> Result<(), DeskRefusal> {
        self.call(
            show_id,
            buyer_id,
            About::Request(request_id),
            HoldCommand::Cancel,
        )
        .await
        .map(drop)
    }

    async fn call(
        &self,
        show_id: Uuid,
        buyer_id: &str,
        about: About,
        command: HoldCommand,
    ) -> Answer {
        let call = Call {
            buyer_id: buyer_id.to_owned(),
            about,
            command,
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

    let Changes {
        book,
        cancel,
        withdraw,
    } = ledger.changes;
    let booked = settle::book(&mut tx, show_id, &book, &mut locked).await?;
    let cancelled =
        settle::release(&mut tx, show_id, &cancel, HoldState::Cancelled, &mut locked).await?;
    if !withdraw.is_empty() {
        settle::withdraw(&mut tx, show_id, &withdraw, &locked).await?;
    }
    tx.commit().await?;
    for (state, count) in [("confirmed", booked), ("cancelled", cancelled)] {
        metrics::counter!("stampede_holds_ended_total", "state" => state).increment(count as u64);
    }
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
    book: Vec<Uuid>,
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
    },
    /// Rejected, quarantined, or gone from the line: nothing to give back.
    Over,
}

impl Ledger {
    fn new(found: Vec<Subject>, now: chrono::DateTime<chrono::Utc>) -> Ledger {
        let mut standings = HashMap::new();
        let mut request_of_hold = HashMap::new();
        for subject in found {
            let hold = subject.hold_id.zip(subject.expires_at);
            let hold_state = subject.hold_state.as_deref().and_then(HoldState::parse);
            let state = match (subject.outcome, hold.zip(hold_state)) {
                (None, _) => State::InLine,
                (Some(_), Some(((hold_id, expires_at), state))) => {
                    request_of_hold.insert(hold_id, subject.request_id);
                    State::Held {
                        hold_id,
                        state: state.at(expires_at, now),
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
            State::Held { hold_id, state } => {
                let next = call.command.apply(state)?;
                match next {
                    HoldState::Confirmed if next != state => self.changes.book.push(hold_id),
                    HoldState::Cancelled if next != state => self.changes.cancel.push(hold_id),
                    _ => {}
                }
                standing.state = State::Held {
                    hold_id,
                    state: next,
                };
            }
        }
        Ok(request_id)
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};

    use super::*;

    const NOW: DateTime<chrono::Utc> = DateTime::UNIX_EPOCH;

    fn held(expires_in_ms: i64) -> Subject {
        Subject {
            request_id: Uuid::from_u128(1),
            position: 1,
            buyer_id: "a".into(),
            outcome: Some("held".into()),
            hold_id: Some(Uuid::from_u128(2)),
            hold_state: Some("held".into()),
            expires_at: Some(NOW + TimeDelta::milliseconds(expires_in_ms)),
        }
    }

    fn call(buyer_id: &str, command: HoldCommand) -> Call {
        Call {
            buyer_id: buyer_id.into(),
            about: About::Hold(Uuid::from_u128(2)),
            command,
        }
    }

    #[test]
    fn confirm_against_cancel_has_one_winner_and_each_may_be_repeated() {
        use HoldCommand::{Cancel, Confirm};
        let mut ledger = Ledger::new(vec![held(1)], NOW);
        assert!(ledger.apply(&call("a", Confirm)).is_ok());
        assert!(ledger.apply(&call("a", Confirm)).is_ok());
        assert_eq!(
            ledger.apply(&call("a", Cancel)),
            Err(DeskRefusal::AlreadyConfirmed)
        );
        assert_eq!(
            (ledger.changes.book.len(), ledger.changes.cancel.len()),
            (1, 0)
        );

        let mut ledger = Ledger::new(vec![held(1)], NOW);
        assert!(ledger.apply(&call("a", Cancel)).is_ok());
        assert!(ledger.apply(&call("a", Cancel)).is_ok());
        assert_eq!(
            ledger.apply(&call("a", Confirm)),
            Err(DeskRefusal::AlreadyCancelled)
        );
        assert_eq!(
            (ledger.changes.book.len(), ledger.changes.cancel.len()),
            (0, 1)
        );
    }

    #[test]
    fn an_expired_hold_is_not_confirmed_even_if_no_sweep_has_seen_it() {
        let mut ledger = Ledger::new(vec![held(0)], NOW);
        assert_eq!(
            ledger.apply(&call("a", HoldCommand::Confirm)),
            Err(DeskRefusal::Expired)
        );
    }

    #[test]
    fn another_buyers_hold_is_not_found() {
        let mut ledger = Ledger::new(vec![held(1)], NOW);
        assert_eq!(
            ledger.apply(&call("b", HoldCommand::Cancel)),
            Err(DeskRefusal::NotFound)
        );
        assert!(ledger.changes.cancel.is_empty());
    }
}
