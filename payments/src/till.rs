//! The till: how a payment comes to its end, whoever drives it.
//!
//! A payment is written down before the gateway hears of it (`open`). From then on it is *driven*: the
//! gateway is asked how the charge stands, one transaction takes that into our rows (`look`), and the
//! rows say what the gateway is to do next. Any process may drive any payment at any time, twice, or
//! after a crash: the rows move under the show's lock, and each step has an idempotency key at the
//! gateway. Calls of one show that come at the same time share a transaction.

mod cancel;
mod look;
mod open;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chrono::Utc;
use stampede_shared::{
    domain::payment::{PaymentState, Step},
    group_commit::GroupCommit,
    retry::retry,
    settle,
    store::{
        Database,
        error::is_transient,
        payments::{self, Payment},
        show_inventory::{self, Locked},
    },
};
use thiserror::Error;
use tracing::{debug, error, warn};
use uuid::Uuid;

use crate::{
    crash,
    gateway::{Charge, Gateway, GatewayError, Order},
};

pub use cancel::{By, Cancel, CancelRefusal, Cancelled};
pub use look::{Look, Looked, Seen, Spare};
pub use open::{Open, OpenRefusal, Opened};

/// The most looks and steps of one drive. A payment needs three; the rest is for races.
const ROUNDS_MAX: usize = 8;

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

#[derive(Debug, Clone)]
enum Call {
    Open(Open),
    Look(Look),
    Cancel(Cancel),
}

#[derive(Debug, Clone)]
enum Answer {
    Opened(Result<Opened, OpenRefusal>),
    Looked(Option<Box<Looked>>),
    Cancelled(Result<Cancelled, CancelRefusal>),
    Unavailable,
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

    /// Drives a payment that was just opened: the gateway has surely not heard of it. Returns it as it
    /// then is.
    pub async fn drive_first(&self, payment: Payment) -> Result<Payment, TillError> {
        let Some(gateway) = self.gateway_of(&payment) else {
            return Ok(payment);
        };
        match self.take_step(gateway, &payment, Step::Authorize).await {
            Some(seen) => self.drive_from(gateway, payment, Some(seen)).await,
            None => Ok(payment),
        }
    }

    /// Asks the gateway how the charge of a payment stands, and drives the payment as far as it goes
    /// now. Returns it as it then is; `None` when there is no such payment. Fails with
    /// [`TillError::NotSeen`] when the gateway gives no clear answer to the first question.
    pub async fn drive(
        &self,
        show_id: Uuid,
        payment_id: Uuid,
    ) -> Result<Option<Payment>, TillError> {
        let Some(payment) = self.find(show_id, payment_id).await? else {
            return Ok(None);
        };
        match self.gateway_of(&payment) {
            Some(gateway) => self.drive_from(gateway, payment, None).await.map(Some),
            None => Ok(Some(payment)),
        }
    }

    async fn find(&self, show_id: Uuid, payment_id: Uuid) -> Result<Option<Payment>, TillError> {
        let found = payments::find_one(&self.database.pool, show_id, payment_id).await;
        found.map_err(|error| {
            warn!(show.id = %show_id, payment.id = %payment_id, %error, "cannot read a payment");
            TillError::Unavailable
        })
    }

    fn gateway_of(&self, payment: &Payment) -> Option<&dyn Gateway> {
        let gateway = self
            .gateway
            .as_deref()
            .filter(|gateway| gateway.name() == payment.gateway);
        if gateway.is_none() && payment.gateway != payments::NO_GATEWAY {
            error!(
                show.id = %payment.show_id, payment.id = %payment.payment_id,
                gateway = payment.gateway, "a payment is at a gateway that is not configured"
            );
        }
        gateway
    }

    /// Looks and steps in turn until the payment rests or the gateway gives no clear answer.
    async fn drive_from(
        &self,
        gateway: &dyn Gateway,
        mut payment: Payment,
        mut seen: Option<Seen>,
    ) -> Result<Payment, TillError> {
        for _ in 0..ROUNDS_MAX {
            let now = match seen.take() {
                Some(seen) => seen,
                None => match find_charge(gateway, &payment).await {
                    Some(seen) => seen,
                    None => return Err(TillError::NotSeen),
                },
            };
            let (show_id, payment_id) = (payment.show_id, payment.payment_id);
            let mut looked = self.look(show_id, payment_id, now.clone(), None).await?;
            if matches!(&looked, Some(looked) if looked.needs_map) {
                // Read outside of the transaction: the map of a hall is big, and never changes.
                let spare = self.spare(show_id).await?;
                looked = self.look(show_id, payment_id, now, Some(spare)).await?;
            }
            let Some(looked) = looked else {
                return Ok(payment);
            };
            payment = looked.payment;
            if looked.step == Step::Rest {
                return Ok(payment);
            }
            if looked.step == Step::Authorize && is_forgotten(gateway, &payment) {
                error!(show.id = %show_id, payment.id = %payment_id,
                    "a payment without a charge is older than the gateway's memory of its key");
                return Ok(payment);
            }
            seen = self.take_step(gateway, &payment, looked.step).await;
            if seen.is_none() {
                return Ok(payment);
            }
        }
        warn!(
            show.id = %payment.show_id, payment.id = %payment.payment_id,
            state = payment.state.as_str(), "a payment does not come to rest; leaving it to recovery"
        );
        Ok(payment)
    }

    async fn spare(&self, show_id: Uuid) -> Result<Spare, TillError> {
        Spare::load(&self.database.pool, show_id)
            .await
            .map_err(|error| {
                warn!(show.id = %show_id, %error, "cannot read the map of a show");
                TillError::Unavailable
            })
    }

    async fn look(
        &self,
        show_id: Uuid,
        payment_id: Uuid,
        seen: Seen,
        spare: Option<Spare>,
    ) -> Result<Option<Looked>, TillError> {
        let look = Look {
            payment_id,
            seen,
            spare,
        };
        match self.call(show_id, Call::Look(look)).await? {
            Answer::Looked(looked) => Ok(looked.map(|looked| *looked)),
            _ => Err(TillError::Unavailable),
        }
    }

    /// Lets the gateway do a step. `None` when it gave no clear answer: it may have been done.
    async fn take_step(
        &self,
        gateway: &dyn Gateway,
        payment: &Payment,
        step: Step,
    ) -> Option<Seen> {
        let (id, charge_id) = (payment.payment_id, payment.charge_id.as_deref());
        let (before, after, name) = match step {
            Step::Authorize => ("before_authorize", "after_authorize", "authorize"),
            Step::Capture => ("before_capture", "after_capture", "capture"),
            Step::Void => ("before_void", "after_void", "void"),
            Step::Refund => ("before_refund", "after_refund", "refund"),
            Step::Rest => return None,
        };
        crash::point(before);
        let started = std::time::Instant::now();
        let answer = match (step, charge_id) {
            (Step::Authorize, _) => {
                let order = Order {
                    show_id: payment.show_id,
                    payment_id: id,
                    amount: payment.amount,
                    currency: payment.currency.clone(),
                    payment_method: payment.payment_method.clone(),
                };
                gateway.authorize(&order).await
            }
            (Step::Capture, Some(charge_id)) => gateway.capture(id, charge_id).await,
            (Step::Void, Some(charge_id)) => gateway.void(id, charge_id).await,
            (Step::Refund, Some(charge_id)) => gateway.refund(id, charge_id).await,
            // Every step but the first is about a charge that was seen.
            (_, None) | (Step::Rest, _) => return None,
        };
        crash::point(after);
        metrics::histogram!("stampede_gateway_call_seconds", "step" => name)
            .record(started.elapsed().as_secs_f64());
        let (show_id, payment_id) = (payment.show_id, payment.payment_id);
        match answer {
            Ok(charge) => Some(Seen::Charge(charge)),
            Err(GatewayError::Unclear(detail)) => {
                metrics::counter!("stampede_gateway_unclear_total", "step" => name).increment(1);
                warn!(show.id = %show_id, payment.id = %payment_id, step = name, detail,
                    "the gateway gave no clear answer; looking again later");
                None
            }
            Err(GatewayError::Refused { code, detail }) => {
                warn!(show.id = %show_id, payment.id = %payment_id, step = name, code, detail,
                    "the gateway refused a step");
                // A refused authorization made no charge. Any other step: only a look tells.
                match step {
                    Step::Authorize => Some(Seen::Refused(code)),
                    _ => find_charge(gateway, payment).await.filter(|seen| {
                        !matches!(seen, Seen::Charge(charge)
                            if next_would_be(payment, charge) == Some(step))
                    }),
                }
            }
        }
    }

    async fn call(&self, show_id: Uuid, call: Call) -> Result<Answer, TillError> {
        match self.batches.call(show_id, call).await {
            Ok(Answer::Unavailable) => Err(TillError::Unavailable),
            Ok(answer) => Ok(answer),
            Err(_) => Err(TillError::Overloaded),
        }
    }
}

/// The step that a charge as it stands would ask for again: saying it in a circle helps nobody.
fn next_would_be(payment: &Payment, charge: &Charge) -> Option<Step> {
    let seats = payment.seats(false);
    let step =
        stampede_shared::domain::payment::next_step(payment.state, seats, Some(charge.status));
    (step != Step::Rest).then_some(step)
}

/// Whether the gateway may have forgotten the key of the first step: saying it again could make a second
/// charge. The hold is over long before, so this is never met while the fence is shorter.
fn is_forgotten(gateway: &dyn Gateway, payment: &Payment) -> bool {
    let age = (Utc::now() - payment.created_at).to_std();
    age.is_ok_and(|age| age >= gateway.keys_last())
}

/// How the charge of a payment stands. `None` when the gateway gave no clear answer.
async fn find_charge(gateway: &dyn Gateway, payment: &Payment) -> Option<Seen> {
    let (show_id, payment_id) = (payment.show_id, payment.payment_id);
    match gateway.find(payment_id, payment.charge_id.as_deref()).await {
        Ok(Some(charge)) => Some(Seen::Charge(charge)),
        Ok(None) => {
            debug!(show.id = %show_id, payment.id = %payment_id, "the gateway has no charge");
            Some(Seen::Absent)
        }
        Err(error) => {
            warn!(show.id = %show_id, payment.id = %payment_id, %error,
                "the gateway cannot be asked; looking again later");
            None
        }
    }
}

/// What a batch's transactions need.
#[derive(Debug, Clone)]
struct Batch {
    database: Database,
    gateway: Option<&'static str>,
    terms: Terms,
}

impl Batch {
    /// Every call may be repeated, so a batch whose commit is unknown is simply done again. When one call
    /// breaks a batch for good, the others are done without it.
    async fn process(&self, show_id: Uuid, calls: Vec<Call>) -> Vec<Answer> {
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
