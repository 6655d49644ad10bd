//! The life of a buyer: arrive, submit, wait for the outcome, pay or not.
//!
//! A buyer tries again with the same key whenever there is no final answer, so a flood can run while
//! servers and databases are killed, and still account for every request.

mod paying;

use std::{
    sync::Mutex,
    sync::PoisonError,
    time::{Duration, Instant},
};

use hyper::{body::Bytes, header::HeaderValue};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::{
    calls::{Calls, Minter, Receipt, RequestAnswer, State, refusal_code},
    checker::Violation,
    client::{Answer, Call, Pool},
    figures::{Counters, Decided, End, Outcome, Record, Submission},
    hall::Hall,
    line::Line,
    persist::{Tries, is_passing},
    plan::Plan,
    wants::{Then, Want},
};

/// What a long-poll asks the server to wait.
const LONG_POLL_SECONDS: u32 = 25;

/// The pace of plain polls when the server does not say one.
const POLL_PACE: Duration = Duration::from_secs(1);

/// The most breaches that buyers report.
const COMPLAINTS_MAX: usize = 100;

/// Everything that buyers share.
pub struct Crowd {
    pub plan: Plan,
    pub hall: Hall,
    pub calls: Calls,
    pub minter: Minter,
    /// Makes the keys and buyers of this flood its own.
    pub name: String,
    pub submits: Pool,
    /// For leaving and cancelling.
    pub acts: Pool,
    /// For plain polls, so that they never wait behind payments.
    pub asks: Pool,
    pub pays: Pool,
    /// Where buyers get their payment methods; `None` when nobody pays.
    pub gateway: Option<Pool>,
    pub pollers: Pool,
    /// For the watermark: it must not wait behind anybody.
    pub watch: Pool,
    pub line: Line,
    /// Closed as soon as buyers may ask for their outcomes.
    pub silence: Semaphore,
    pub counters: Counters,
    pub complaints: Mutex<Vec<Violation>>,
    pub began: Instant,
}

struct Buyer<'a> {
    crowd: &'a Crowd,
    who: HeaderValue,
    want: Want,
}

impl Crowd {
    /// Lives the life of one buyer. `intended` is when they wanted to begin; `submitted` is dropped
    /// when their submission is through.
    pub async fn live(
        &self,
        index: u64,
        intended: Duration,
        submitted: impl Send,
    ) -> anyhow::Result<Record> {
        let want = Want::draw(self.plan.seed, index, &self.plan.habits, &self.hall);
        let who = self.minter.mint(&self.buyer_id(want.buyer))?;
        let buyer = Buyer {
            crowd: self,
            who,
            want,
        };
        let mut record = Record {
            index,
            intended,
            submission: Submission::GaveUp(String::new()),
            outcome: None,
            payments: Vec::new(),
            end: End::None,
        };
        Counters::count(&self.counters.submitted);
        // Boxed, so that a buyer who waits takes little memory.
        let (submission, pace) = Box::pin(buyer.submit(index)).await?;
        drop(submitted);
        record.submission = submission;
        if let Submission::Accepted { id, position, .. } = record.submission {
            Counters::count(&self.counters.accepted);
            Box::pin(buyer.see_it_through(id, position, pace, &mut record)).await;
        }
        Counters::count(&self.counters.ended);
        Ok(record)
    }

    /// The id of the buyer with this number.
    pub fn buyer_id(&self, number: u64) -> String {
        format!("{}-buyer-{number}", self.name)
    }

    fn complain(&self, rule: &'static str, detail: String) {
        let mut complaints = self
            .complaints
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if complaints.len() < COMPLAINTS_MAX {
            complaints.push(Violation { rule, detail });
        }
    }
}

impl Buyer<'_> {
    /// Submits until there is a final answer; gives the pace to poll at, too.
    async fn submit(&self, index: u64) -> anyhow::Result<(Submission, Duration)> {
        let crowd = self.crowd;
        let key = format!("{}-request-{index}", crowd.name);
        let body = Bytes::from(self.want.body(&crowd.hall));
        let call = crowd.calls.submit(&self.who, &key, body)?;
        let answer = Tries::default()
            .until_final(crowd.plan.patience, &crowd.counters, &crowd.submits, &call)
            .await;
        let at = crowd.began.elapsed();
        let answer = match answer {
            Ok(answer) if answer.status == 202 => answer,
            Ok(answer) => {
                let code = refusal_code(answer.status, &answer.body);
                return Ok((Submission::Refused(code), Duration::ZERO));
            }
            Err(code) => return Ok((Submission::GaveUp(code), Duration::ZERO)),
        };
        let Some(receipt) = self.read_receipt(index, &answer) else {
            return Ok((Submission::GaveUp("unreadable".to_owned()), Duration::ZERO));
        };
        if self.want.replay {
            let again = Tries::default()
                .until_final(crowd.plan.patience, &crowd.counters, &crowd.submits, &call)
                .await;
            self.compare_replay(index, receipt, again);
        }
        let pace = answer.retry_after().unwrap_or(POLL_PACE);
        Ok((
            Submission::Accepted {
                id: receipt.id,
                position: receipt.position,
                at,
                service: answer.took,
            },
            pace,
        ))
    }

    fn read_receipt(&self, index: u64, answer: &Answer) -> Option<Receipt> {
        match serde_json::from_slice(&answer.body) {
            Ok(receipt) => Some(receipt),
            Err(error) => {
                let body = String::from_utf8_lossy(&answer.body);
                self.crowd.complain(
                    "readable_answers",
                    format!("request {index}: {error}: {body}"),
                );
                None
            }
        }
    }

    fn compare_replay(&self, index: u64, receipt: Receipt, again: Result<Answer, String>) {
        // Refused for now, or out of patience: that says nothing about the key.
        let Ok(again) = again else { return };
        let same = again.status == 202
            && serde_json::from_slice::<Receipt>(&again.body).is_ok_and(|again| again == receipt);
        if !same {
            let body = String::from_utf8_lossy(&again.body);
            let detail = format!(
                "request {index}, position {}: {} {body}",
                receipt.position, again.status
            );
            self.crowd.complain("same_key_same_answer", detail);
        }
    }

    /// From the acceptance to the end.
    async fn see_it_through(&self, id: Uuid, position: i64, pace: Duration, record: &mut Record) {
        let told = if self.want.leave {
            self.leave(id, position, pace).await
        } else {
            self.wait_for_outcome(id, position, pace).await
        };
        let Some(answer) = told else {
            record.end = End::Unknown;
            return;
        };
        Counters::count(&self.crowd.counters.answered);
        if (answer.id, answer.position) != (id, position) {
            let detail = format!(
                "accepted {id} at {position}, answered {} at {}",
                answer.id, answer.position
            );
            self.crowd.complain("position_never_changes", detail);
        }
        let hold = answer.hold.as_ref().map(|hold| hold.id);
        record.end = match answer.state {
            State::Cancelled if hold.is_some() => End::Cancelled,
            State::Expired => End::Expired,
            _ => End::None,
        };
        let still_held = answer.state == State::Held;
        record.outcome = self.outcome_of(answer);
        if let Some(hold) = hold.filter(|_| still_held) {
            record.end = match self.want.then {
                Then::Confirm => self.pay(hold, &mut record.payments).await,
                Then::Cancel => self.cancel(hold).await,
                Then::Abandon => End::Abandoned,
            };
        }
    }

    fn outcome_of(&self, answer: RequestAnswer) -> Option<Outcome> {
        let state = match (answer.state, &answer.hold) {
            (State::Held | State::Confirmed | State::Expired | State::Cancelled, Some(_)) => {
                Decided::Held
            }
            (State::Rejected, None) => Decided::Rejected,
            (State::Cancelled, None) => Decided::Left,
            (State::Quarantined, None) => Decided::Quarantined,
            _ => {
                let detail = format!("position {}: {:?}", answer.position, answer);
                self.crowd.complain("readable_answers", detail);
                return None;
            }
        };
        Some(Outcome {
            state,
            reason: answer.reason,
            hold: answer.hold.map(Box::new),
            accepted_at: answer.accepted_at,
            decided_at: answer.decided_at.unwrap_or(answer.accepted_at),
            at: self.crowd.began.elapsed(),
        })
    }

    /// Polls until the request is decided: by long-poll while a poller is free, else plainly, when
    /// the line has passed or at the server's pace.
    async fn wait_for_outcome(
        &self,
        id: Uuid,
        position: i64,
        mut pace: Duration,
    ) -> Option<RequestAnswer> {
        let crowd = self.crowd;
        // An error is what a closed semaphore gives.
        let _ = crowd.silence.acquire().await;
        let accepted = Instant::now();
        let mut tries = Tries::default();
        while crowd.line.still(accepted) < crowd.plan.patience {
            let waiting = crowd.calls.request_wait(&self.who, id, LONG_POLL_SECONDS);
            let answer = match crowd.pollers.try_call(&waiting).await {
                Some(answer) => answer,
                None => {
                    crowd.line.passes(position, pace).await;
                    crowd.asks.call(&crowd.calls.request(&self.who, id)).await
                }
            };
            match answer {
                Ok(answer) if answer.is_success() => {
                    tries = Tries::default();
                    pace = answer.retry_after().unwrap_or(POLL_PACE);
                    let told = self.read_answer(id, &answer)?;
                    if told.state != State::Queued {
                        return Some(told);
                    }
                }
                Ok(answer) if is_passing(answer.status) => {
                    crowd
                        .counters
                        .count_retry(&refusal_code(answer.status, &answer.body));
                    tries.back_off(answer.retry_after()).await;
                }
                Ok(answer) => {
                    let code = refusal_code(answer.status, &answer.body);
                    let detail = format!("position {position}, {id}: {} {code}", answer.status);
                    crowd.complain("accepted_is_found", detail);
                    return None;
                }
                Err(error) => {
                    crowd.counters.count_retry(error.code());
                    tries.back_off(None).await;
                }
            }
        }
        None
    }

    /// Leaves the line. Who was decided meanwhile reads what became of it.
    async fn leave(&self, id: Uuid, position: i64, pace: Duration) -> Option<RequestAnswer> {
        let answer = self.act(self.crowd.calls.leave(&self.who, id)).await.ok()?;
        if answer.status == 409 {
            return self.wait_for_outcome(id, position, pace).await;
        }
        self.read_answer(id, &answer)
    }

    /// Gives back what was won.
    async fn cancel(&self, hold: Uuid) -> End {
        let call = self.crowd.calls.cancel(&self.who, hold);
        let answer = match self.act(call).await {
            Ok(answer) if answer.status == 410 => return End::Expired,
            Ok(answer) => answer,
            Err(_) => return End::Unknown,
        };
        let Some(told) = self.read_answer(hold, &answer) else {
            return End::Unknown;
        };
        match told.state {
            State::Cancelled => End::Cancelled,
            State::Expired => End::Expired,
            _ => {
                self.crowd
                    .complain("readable_answers", format!("hold {hold}: {told:?}"));
                End::Unknown
            }
        }
    }

    async fn act(&self, call: Call) -> Result<Answer, String> {
        Tries::default()
            .until_final(
                self.crowd.plan.patience,
                &self.crowd.counters,
                &self.crowd.acts,
                &call,
            )
            .await
    }

    fn read_answer(&self, about: Uuid, answer: &Answer) -> Option<RequestAnswer> {
        match serde_json::from_slice(&answer.body) {
            Ok(told) if answer.is_success() => Some(told),
            _ => {
                let body = String::from_utf8_lossy(&answer.body);
                let detail = format!("{about}: {} {body}", answer.status);
                self.crowd.complain("readable_answers", detail);
                None
            }
        }
    }
}
