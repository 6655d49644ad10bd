//! The intake: gives positions to submissions and appends them to the log, a batch a transaction.
//!
//! A submission is answered after the commit, never before. Positions are gapless because they are
//! given under the show's intake lock, and the sale state is read under the same lock, so none is
//! given after the close. A key that is in the log already gets the position that it has.

use std::{collections::HashMap, time::Instant};

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use stampede_shared::{
    domain::{Amount, Position, sale::SaleState, wish::Wish},
    group_commit::GroupCommit,
    retry::retry,
    store::{
        Database,
        booking_requests::{self, KnownRequest, NewRequests},
        error::{is_transient, violated_constraint},
        show_intake::{self, Intake as IntakeRow},
    },
};
use uuid::Uuid;

/// A valid request to book, as the edge has parsed it.
#[derive(Debug, Clone)]
pub struct Submission {
    pub show_id: Uuid,
    /// Of this submission if it is new; a replay has the one that it got first.
    pub request_id: Uuid,
    pub buyer_id: String,
    pub idempotency_key: String,
    pub body_hash: [u8; 32],
    pub wishes: Vec<Wish>,
    pub max_total: Option<Amount>,
}

/// A place in the log, committed.
#[derive(Debug, Clone, PartialEq)]
pub struct Accepted {
    pub request_id: Uuid,
    pub position: Position,
    /// The key was known: nothing new was appended.
    pub replayed: bool,
    pub decided_through: Position,
    pub decided_per_s: Option<f64>,
    pub paused: bool,
}

/// Why a submission was not taken.
#[derive(Debug, Clone, PartialEq)]
pub enum Refusal {
    NoSuchShow,
    NotOpen {
        opens_at: Option<DateTime<Utc>>,
    },
    Closed {
        reason: Option<String>,
    },
    /// As many requests wait as the show allows.
    QueueFull,
    /// The key was used with another body.
    KeyReused,
    /// This process has too many submissions in hand.
    Overloaded,
    /// The database is away. The submission may or may not be in the log: the same key tells.
    Unavailable,
}

type Answer = Result<Accepted, Refusal>;

/// Takes submissions.
#[derive(Debug, Clone)]
pub struct Intake {
    batches: GroupCommit<Submission, Answer>,
}

impl Intake {
    pub fn new(database: Database) -> Intake {
        let batches = GroupCommit::new(move |show_id, submissions| {
            let database = database.clone();
            async move { append(&database, show_id, &submissions).await }
        });
        Intake { batches }
    }

    /// Appends a submission to its show's log and returns when that is durable.
    pub async fn submit(&self, submission: Submission) -> Answer {
        match self.batches.call(submission.show_id, submission).await {
            Ok(answer) => answer,
            Err(_) => Err(Refusal::Overloaded),
        }
    }
}

/// Appends a batch, trying again while the database is away. An error during the commit leaves the
/// outcome unknown; the next try finds the keys of what did commit.
async fn append(database: &Database, show_id: Uuid, submissions: &[Submission]) -> Vec<Answer> {
    let may_pass = |failed: &sqlx::Error| {
        let raced = violated_constraint(failed) == Some("booking_requests_key_once");
        raced || is_transient(failed)
    };
    let attempt = || async {
        let started = Instant::now();
        let answers = append_once(database, show_id, submissions).await?;
        metrics::histogram!("stampede_intake_batch_requests").record(submissions.len() as f64);
        metrics::histogram!("stampede_intake_commit_seconds")
            .record(started.elapsed().as_secs_f64());
        Ok(answers)
    };
    retry(show_id, "intake", may_pass, attempt)
        .await
        .unwrap_or_else(|| vec![Err(Refusal::Unavailable); submissions.len()])
}

async fn append_once(
    database: &Database,
    show_id: Uuid,
    submissions: &[Submission],
) -> sqlx::Result<Vec<Answer>> {
    let mut tx = database.begin().await?;
    let Some(intake) = show_intake::lock(&mut tx, show_id).await? else {
        return Ok(vec![Err(Refusal::NoSuchShow); submissions.len()]);
    };
    let known = find_known(&mut tx, show_id, submissions).await?;
    let plan = plan(&intake, &known, submissions);
    if !plan.rows.positions.is_empty() {
        booking_requests::append(&mut tx, show_id, &plan.rows, intake.now).await?;
    }
    tx.commit().await?;
    Ok(plan.answers)
}

async fn find_known(
    connection: &mut PgConnection,
    show_id: Uuid,
    submissions: &[Submission],
) -> sqlx::Result<Vec<KnownRequest>> {
    let buyers: Vec<&str> = submissions.iter().map(|it| it.buyer_id.as_str()).collect();
    let keys: Vec<&str> = submissions
        .iter()
        .map(|it| it.idempotency_key.as_str())
        .collect();
    booking_requests::find_by_keys(connection, show_id, &buyers, &keys).await
}

/// What a batch appends and answers.
#[derive(Debug)]
struct Plan {
    rows: NewRequests,
    answers: Vec<Answer>,
}

/// A key that has its position, from the log or from earlier in the batch.
struct Given {
    request_id: Uuid,
    position: Position,
    body_hash: Vec<u8>,
}

/// Gives positions in the order of the batch. No SQL, no clock.
fn plan(intake: &IntakeRow, known: &[KnownRequest], submissions: &[Submission]) -> Plan {
    let mut given: HashMap<(&str, &str), Given> = known
        .iter()
        .map(|it| {
            let body_hash = it.body_hash.clone();
            let given = Given {
                request_id: it.request_id,
                position: it.position,
                body_hash,
            };
            ((it.buyer_id.as_str(), it.idempotency_key.as_str()), given)
        })
        .collect();
    let state = intake.sale.state_at(intake.now);
    let mut rows = NewRequests::default();
    let mut last_position = intake.last_position;
    let accepted = |request_id, position, replayed| Accepted {
        request_id,
        position,
        replayed,
        decided_through: intake.decided_through,
        decided_per_s: intake.decided_per_s,
        paused: state == SaleState::Paused,
    };
    let mut answers = Vec::with_capacity(submissions.len());
    for submission in submissions {
        let Submission {
            request_id,
            buyer_id,
            idempotency_key,
            body_hash,
            ..
        } = submission;
        let key = (buyer_id.as_str(), idempotency_key.as_str());
        let answer = if let Some(given) = given.get(&key) {
            if given.body_hash == body_hash {
                // A retry after an unknown commit finds its own row: that is no replay.
                let replayed = given.request_id != *request_id;
                Ok(accepted(given.request_id, given.position, replayed))
            } else {
                Err(Refusal::KeyReused)
            }
        } else if let Err(refusal) = refuse(intake, state, last_position) {
            Err(refusal)
        } else {
            last_position += 1;
            push(&mut rows, submission, last_position);
            let (request_id, position) = (*request_id, last_position);
            given.insert(
                key,
                Given {
                    request_id,
                    position,
                    body_hash: body_hash.to_vec(),
                },
            );
            Ok(accepted(request_id, position, false))
        };
        answers.push(answer);
    }
    Plan { rows, answers }
}

fn refuse(intake: &IntakeRow, state: SaleState, last_position: Position) -> Result<(), Refusal> {
    match state {
        SaleState::Scheduled => Err(Refusal::NotOpen {
            opens_at: intake.sale.opens_at,
        }),
        SaleState::Closed => Err(Refusal::Closed {
            reason: intake.sale.reason.clone(),
        }),
        SaleState::Open | SaleState::Paused => {
            if last_position - intake.decided_through >= intake.queue_limit {
                return Err(Refusal::QueueFull);
            }
            Ok(())
        }
    }
}

fn push(rows: &mut NewRequests, submission: &Submission, position: Position) {
    rows.positions.push(position);
    rows.request_ids.push(submission.request_id);
    rows.buyer_ids.push(submission.buyer_id.clone());
    rows.idempotency_keys
        .push(submission.idempotency_key.clone());
    rows.body_hashes.push(submission.body_hash.to_vec());
    let wishes = serde_json::to_string(&submission.wishes);
    rows.wishes.push(wishes.expect("wishes are plain data"));
    rows.max_totals.push(submission.max_total);
}

#[cfg(test)]
mod tests {
    use stampede_shared::domain::sale::Sale;

    use super::*;

    fn row(state: SaleState) -> IntakeRow {
        IntakeRow {
            last_position: 7,
            decided_through: 5,
            decided_per_s: None,
            sale: Sale {
                state,
                reason: None,
                opens_at: None,
                closes_at: None,
            },
            queue_limit: 4,
            now: DateTime::UNIX_EPOCH,
        }
    }

    fn submission(buyer: &str, key: &str, body: u8) -> Submission {
        Submission {
            show_id: Uuid::nil(),
            request_id: Uuid::now_v7(),
            buyer_id: buyer.into(),
            idempotency_key: key.into(),
            body_hash: [body; 32],
            wishes: vec![Wish::Seats(vec![1])],
            max_total: None,
        }
    }

    fn positions(plan: &Plan) -> Vec<Option<Position>> {
        plan.answers
            .iter()
            .map(|it| it.as_ref().ok().map(|it| it.position))
            .collect()
    }

    #[test]
    fn positions_are_gapless_in_the_order_of_the_batch_up_to_the_bound() {
        let batch: Vec<_> = (0..4)
            .map(|n| submission(&format!("b{n}"), "key-0001", 1))
            .collect();
        let plan = plan(&row(SaleState::Open), &[], &batch);
        assert_eq!(positions(&plan), [Some(8), Some(9), None, None]);
        assert_eq!(plan.answers[2], Err(Refusal::QueueFull));
        assert_eq!(plan.rows.positions, [8, 9]);
    }

    #[test]
    fn a_key_has_one_position_in_the_batch_and_in_the_log() {
        let known = KnownRequest {
            buyer_id: "a".into(),
            idempotency_key: "key-0001".into(),
            request_id: Uuid::nil(),
            position: 3,
            body_hash: vec![1; 32],
        };
        let batch = [
            submission("a", "key-0001", 1),
            submission("a", "key-0001", 2),
            submission("b", "key-0001", 1),
            submission("b", "key-0001", 1),
        ];
        let plan = plan(
            &row(SaleState::Closed),
            std::slice::from_ref(&known),
            &batch,
        );
        assert_eq!(positions(&plan), [Some(3), None, None, None]);
        assert_eq!(plan.answers[1], Err(Refusal::KeyReused));
        assert!(plan.answers[0].as_ref().is_ok_and(|it| it.replayed));

        let plan = super::plan(&row(SaleState::Open), &[known], &batch);
        assert_eq!(positions(&plan), [Some(3), None, Some(8), Some(8)]);
        assert!(plan.answers[3].as_ref().is_ok_and(|it| it.replayed));
    }

    #[test]
    fn a_scheduled_or_closed_sale_gives_no_position_and_a_paused_one_does() {
        let batch = [submission("a", "key-0001", 1)];
        let answer = |state| plan(&row(state), &[], &batch).answers.remove(0);
        assert_eq!(
            answer(SaleState::Scheduled),
            Err(Refusal::NotOpen { opens_at: None })
        );
        assert_eq!(
            answer(SaleState::Closed),
            Err(Refusal::Closed { reason: None })
        );
        assert!(answer(SaleState::Paused).is_ok_and(|it| it.paused));
    }
}
