//! One transaction of the till: the calls of one show that came at the same time.

use std::sync::atomic::{AtomicBool, Ordering};

use stampede_shared::{
    domain::payment::PaymentState,
    retry::retry,
    settle,
    store::{
        Database,
        error::is_transient,
        show_inventory::{self, Locked},
    },
};
use uuid::Uuid;

use super::{
    Terms,
    cancel::{self, Cancel, CancelRefusal, Cancelled},
    look::{self, Look, Looked},
    open::{self, Open, OpenRefusal, Opened},
};
use crate::crash;

#[derive(Debug, Clone)]
pub(super) enum Call {
    Open(Open),
    Look(Look),
    Cancel(Cancel),
}

#[derive(Debug, Clone)]
pub(super) enum Answer {
    Opened(Result<Opened, OpenRefusal>),
    Looked(Option<Box<Looked>>),
    Cancelled(Result<Cancelled, CancelRefusal>),
    Unavailable,
}

/// What a batch's transactions need.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    pub database: Database,
    pub gateway: Option<&'static str>,
    pub terms: Terms,
}

impl Batch {
    /// Every call may be repeated, so a batch whose commit is unknown is simply done again. When one call
    /// breaks a batch for good, the others are done without it.
    pub async fn process(&self, show_id: Uuid, calls: Vec<Call>) -> Vec<Answer> {
        let broken = AtomicBool::new(false);
        let may_pass = |error: &sqlx::Error| {
            broken.store(!is_transient(error), Ordering::Relaxed);
            is_transient(error)
        };
        let done = retry(show_id, "till", may_pass, || {
            self.process_once(show_id, &calls)
        });
        if let Some(answers) = done.await {
            return answers;
        }
        let mut answers = vec![Answer::Unavailable; calls.len()];
        if broken.load(Ordering::Relaxed) && calls.len() > 1 {
            for (answer, call) in answers.iter_mut().zip(&calls) {
                let alone = self.process_once(show_id, std::slice::from_ref(call)).await;
                if let Some(done) = alone.ok().and_then(|mut answers| answers.pop()) {
                    *answer = done;
                }
            }
        }
        answers
    }

    /// Looks first, then cancellations, then new payments: each kind reads what the one before wrote.
    async fn process_once(&self, show_id: Uuid, calls: &[Call]) -> sqlx::Result<Vec<Answer>> {
        let (mut looks, mut cancels, mut opens) = (Vec::new(), Vec::new(), Vec::new());
        for (index, call) in calls.iter().enumerate() {
            match call {
                Call::Look(look) => looks.push((index, look)),
                Call::Cancel(cancel) => cancels.push((index, cancel)),
                Call::Open(open) => opens.push((index, open)),
            }
        }
        let mut answers = vec![Answer::Unavailable; calls.len()];
        let mut tx = self.database.begin().await?;
        let Some(mut locked) = show_inventory::lock(&mut tx, show_id).await? else {
            // The show was found before; without it there is nothing to pay for.
            for (index, _) in opens {
                answers[index] = Answer::Opened(Err(OpenRefusal::NotFound));
            }
            for (index, _) in cancels {
                answers[index] = Answer::Cancelled(Err(CancelRefusal::NotFound));
            }
            for (index, _) in looks {
                answers[index] = Answer::Looked(None);
            }
            return Ok(answers);
        };
        // What is over is over before anything is paid.
        settle::expire_due(&mut tx, show_id, &mut locked).await?;
        if !looks.is_empty() {
            let asked: Vec<&Look> = looks.iter().map(|(_, look)| *look).collect();
            let done = look::look(&mut tx, show_id, &asked, &self.terms, &mut locked).await?;
            for ((index, _), looked) in looks.into_iter().zip(done) {
                answers[index] = Answer::Looked(looked.map(Box::new));
            }
        }
        if !cancels.is_empty() {
            let asked: Vec<&Cancel> = cancels.iter().map(|(_, cancel)| *cancel).collect();
            let done = cancel::cancel(&mut tx, show_id, &asked, &self.terms, &mut locked).await?;
            for ((index, _), cancelled) in cancels.into_iter().zip(done) {
                answers[index] = Answer::Cancelled(cancelled);
            }
        }
        if !opens.is_empty() {
            let asked: Vec<&Open> = opens.iter().map(|(_, open)| *open).collect();
            let done = self.open(&mut tx, show_id, &asked, &mut locked).await?;
            for ((index, _), opened) in opens.into_iter().zip(done) {
                answers[index] = Answer::Opened(opened);
            }
        }
        crash_points(&answers, "before");
        tx.commit().await?;
        crash_points(&answers, "after");
        count(&answers);
        Ok(answers)
    }

    async fn open(
        &self,
        connection: &mut sqlx::PgConnection,
        show_id: Uuid,
        asked: &[&Open],
        locked: &mut Locked,
    ) -> sqlx::Result<Vec<Result<Opened, OpenRefusal>>> {
        open::open(
            connection,
            show_id,
            asked,
            self.gateway,
            &self.terms,
            locked,
        )
        .await
    }
}

/// One fail point before and one after the commit of each thing that a batch can do.
fn crash_points(answers: &[Answer], when: &str) {
    for answer in answers {
        let (before, after) = match answer {
            Answer::Opened(Ok(_)) => ("open_before_commit", "open_after_commit"),
            Answer::Cancelled(Ok(_)) => ("cancel_before_commit", "cancel_after_commit"),
            Answer::Looked(Some(looked)) => match looked.payment.state {
                PaymentState::Capturing => ("pin_before_commit", "pin_after_commit"),
                PaymentState::Captured => ("captured_before_commit", "captured_after_commit"),
                PaymentState::Refunded => ("refunded_before_commit", "refunded_after_commit"),
                PaymentState::Authorized => ("lost_before_commit", "lost_after_commit"),
                PaymentState::Voided => ("voided_before_commit", "voided_after_commit"),
                PaymentState::Declined => ("declined_before_commit", "declined_after_commit"),
                _ => continue,
            },
            _ => continue,
        };
        crash::point(if when == "before" { before } else { after });
    }
}

fn count(answers: &[Answer]) {
    for answer in answers {
        if let Answer::Looked(Some(looked)) = answer
            && looked.moved
        {
            let state = looked.payment.state.as_str();
            metrics::counter!("stampede_payments_total", "state" => state).increment(1);
        }
    }
}
