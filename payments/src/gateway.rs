//! What a payment gateway can do for us. Two do it: [`crate::stripe`] and [`crate::simulated`].
//!
//! Money is reserved first (`authorize`), taken when the seats are ours (`capture`), let go when they
//! are not (`void`), and given back whole (`refund`). Each of these carries an idempotency key made of
//! our payment's id and the name of the step, so that saying it twice does it once, for as long as the
//! gateway remembers keys. After that, only a look ([`Gateway::find`]) tells what was done.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use stampede_shared::domain::Amount;
pub use stampede_shared::domain::payment::ChargeStatus;
use thiserror::Error;
use uuid::Uuid;

/// What we ask money for.
#[derive(Debug, Clone)]
pub struct Order {
    pub show_id: Uuid,
    /// Our id: the idempotency key, and the metadata by which the gateway finds it again.
    pub payment_id: Uuid,
    /// In minor units of the currency, above 0.
    pub amount: Amount,
    /// ISO 4217, capital letters.
    pub currency: String,
    /// The gateway's token for the buyer's means of payment. Never a card number.
    pub payment_method: String,
}

/// A charge as the gateway has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// The gateway's id.
    pub gateway_id: String,
    pub status: ChargeStatus,
    /// Taken from the buyer so far, minor units; refunds are not subtracted.
    pub captured: Amount,
    /// Given back so far, minor units.
    pub refunded: Amount,
    /// ISO 4217, capital letters.
    pub currency: String,
    /// Where the buyer goes for a further step.
    pub next_action: Option<String>,
    /// The gateway's word for why it was declined, such as `insufficient_funds`.
    pub reason: Option<String>,
    /// Our ids, from the metadata; `None` when the charge is not one of ours.
    pub payment_id: Option<Uuid>,
    pub show_id: Option<Uuid>,
}

/// Why a call brought no charge.
#[derive(Debug, Error)]
pub enum GatewayError {
    /// No answer, or one that says nothing: it may have been done. Look, or say it again with its key.
    #[error("the gateway gave no clear answer: {0}")]
    Unclear(String),
    /// A clear no that is not about the buyer's money: a wrong key of ours, an unknown method, a step
    /// that the charge is past. Nothing was done.
    #[error("the gateway refused: {code}: {detail}")]
    Refused { code: String, detail: String },
}

/// What a callback told, after its signature was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callback {
    /// The gateway's id of the event, the same when it is sent again.
    pub event_id: String,
    /// The charge that it is about, and our ids in its metadata; `None` for events of other things.
    pub about: Option<About>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    pub show_id: Uuid,
    pub payment_id: Uuid,
    pub gateway_id: String,
    /// How the charge stood then, if the event says so. Only to tell news from what we know: what
    /// counts is how it stands now.
    pub told: Option<ChargeStatus>,
}

/// Why a callback is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CallbackError {
    #[error("the signature header is missing or cannot be read")]
    NoSignature,
    #[error("no signature is that of a configured secret")]
    WrongSignature,
    #[error("the timestamp is more than 300 seconds away")]
    TooOld,
    #[error("the body is not an event of this gateway")]
    Unreadable,
}

/// A page of the gateway's ledger, the oldest charges first.
#[derive(Debug, Default)]
pub struct LedgerPage {
    pub charges: Vec<Charge>,
    /// Where the next page begins; `None` when this was the last.
    pub next: Option<String>,
}

/// A gateway's answer: a charge, or why there is none.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, GatewayError>>;

/// A payment gateway. Every call has a timeout of its own and may be repeated.
pub trait Gateway: Send + Sync + std::fmt::Debug {
    /// The word in the database and in `/v1/payment-callbacks/{gateway}`.
    fn name(&self) -> &'static str;

    /// How long a key is surely remembered. Older steps are looked up, never said again.
    fn keys_last(&self) -> Duration;

    /// Reserves the money of an order. A decline is a charge, not an error.
    fn authorize<'a>(&'a self, order: &'a Order) -> Answer<'a, Charge>;

    /// How the charge of a payment stands: by the gateway's id if we know it, else by our id in its
    /// metadata. `None` when the gateway has none.
    fn find<'a>(
        &'a self,
        payment_id: Uuid,
        gateway_id: Option<&'a str>,
    ) -> Answer<'a, Option<Charge>>;

    /// Takes the reserved money, all of it.
    fn capture<'a>(&'a self, payment_id: Uuid, gateway_id: &'a str) -> Answer<'a, Charge>;

    /// Lets the reserved money go.
    fn void<'a>(&'a self, payment_id: Uuid, gateway_id: &'a str) -> Answer<'a, Charge>;

    /// Gives all of the money back.
    fn refund<'a>(&'a self, payment_id: Uuid, gateway_id: &'a str) -> Answer<'a, Charge>;

    /// Checks a callback: `header` gives a request header by its lower-case name.
    fn check_callback(
        &self,
        header: &dyn Fn(&str) -> Option<String>,
        body: &[u8],
        now: DateTime<Utc>,
    ) -> Result<Callback, CallbackError>;

    /// Charges that were made at or after `since`, page by page; `after` is the `next` of the page before.
    fn ledger<'a>(&'a self, since: DateTime<Utc>, after: Option<&'a str>)
    -> Answer<'a, LedgerPage>;
}
