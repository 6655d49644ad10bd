//! The life of a payment: what follows from what a gateway says of its charge.
//!
//! `created -> authorized -> capturing -> captured -> refunding -> refunded`, with `declined`, `voided`
//! and `failed`. Nothing here trusts the order or the number of the gateway's messages: [`follow`]
//! takes the payment's state, whether its seats can still be had, and how the charge stands *now*, and
//! says what is to be done. The same look twice changes nothing the second time, and a look that is
//! older than what is known changes nothing at all.

use serde::{Deserialize, Serialize};

use super::Amount;

/// Where a payment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PaymentState {
    /// The intent is written down; the gateway may or may not have heard of it.
    Created,
    /// The money is reserved; the seats are not booked, or not any more.
    Authorized,
    /// The seats are the buyer's, the money is being taken.
    Capturing,
    /// The money is ours, the booking is confirmed.
    Captured,
    /// The money is on its way back.
    Refunding,
    /// Final: the money is back.
    Refunded,
    /// Final: the gateway said no.
    Declined,
    /// Final: the reservation was let go, nothing was taken.
    Voided,
    /// Final: nothing was reserved or taken.
    Failed,
}

impl PaymentState {
    pub const ALL: [PaymentState; 9] = [
        PaymentState::Created,
        PaymentState::Authorized,
        PaymentState::Capturing,
        PaymentState::Captured,
        PaymentState::Refunding,
        PaymentState::Refunded,
        PaymentState::Declined,
        PaymentState::Voided,
        PaymentState::Failed,
    ];

    /// The word in the database and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            PaymentState::Created => "created",
            PaymentState::Authorized => "authorized",
            PaymentState::Capturing => "capturing",
            PaymentState::Captured => "captured",
            PaymentState::Refunding => "refunding",
            PaymentState::Refunded => "refunded",
            PaymentState::Declined => "declined",
            PaymentState::Voided => "voided",
            PaymentState::Failed => "failed",
        }
    }

    /// The state of that word, if there is one.
    pub fn parse(word: &str) -> Option<PaymentState> {
        PaymentState::ALL
            .into_iter()
            .find(|state| state.as_str() == word)
    }

    /// Whether somebody must still do something: the buyer, the gateway, or we.
    pub fn is_moving(self) -> bool {
        matches!(
            self,
            PaymentState::Created
                | PaymentState::Authorized
                | PaymentState::Capturing
                | PaymentState::Refunding
        )
    }

    /// Whether the hold waits for it: no other payment may begin.
    pub fn is_in_flight(self) -> bool {
        matches!(
            self,
            PaymentState::Created | PaymentState::Authorized | PaymentState::Capturing
        )
    }
}

/// Whether a show's holds are paid at a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaymentPolicy {
    /// What costs something is paid.
    Required,
    /// Nothing is paid, whatever the prices say: invitations.
    Complimentary,
}

impl PaymentPolicy {
    /// The word in the database and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            PaymentPolicy::Required => "required",
            PaymentPolicy::Complimentary => "complimentary",
        }
    }

    /// The policy of that word, if there is one.
    pub fn parse(word: &str) -> Option<PaymentPolicy> {
        [PaymentPolicy::Required, PaymentPolicy::Complimentary]
            .into_iter()
            .find(|policy| policy.as_str() == word)
    }

    /// What of a hold's total is to be paid.
    pub fn to_pay(self, total: Amount) -> Amount {
        match self {
            PaymentPolicy::Required => total,
            PaymentPolicy::Complimentary => 0,
        }
    }
}

/// How a charge stands at the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChargeStatus {
    /// The gateway, the bank or the buyer has something left to do.
    Pending,
    /// Final: no money was reserved.
    Declined,
    /// The money is reserved.
    Authorized,
    /// The money is taken, and not (or not wholly) given back.
    Captured,
    /// Final: all of it was given back.
    Refunded,
    /// Final: nothing was taken, the reservation is gone.
    Voided,
}

/// Whether it is news for a payment in `state` that its charge stood so at some time. What it has been
/// through before is none: a charge never goes back.
pub fn is_news(state: PaymentState, told: ChargeStatus) -> bool {
    use PaymentState as P;
    match told {
        ChargeStatus::Pending => state == P::Created,
        ChargeStatus::Authorized => {
            matches!(state, P::Created | P::Declined | P::Voided | P::Failed)
        }
        ChargeStatus::Captured => !matches!(state, P::Captured | P::Refunding | P::Refunded),
        ChargeStatus::Refunded => state != P::Refunded,
        ChargeStatus::Declined => state != P::Declined,
        ChargeStatus::Voided => state != P::Voided,
    }
}

/// Whether the seats of a payment's hold can be booked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Seats {
    /// The hold lives.
    Kept,
    /// This payment has booked them.
    Booked,
    /// The hold expired, without another payment for it: equal seats may be free.
    Lost,
    /// There is nothing to book: the buyer or an operator cancelled, the show is cancelled, or another
    /// payment has booked the hold.
    Gone,
}

/// What a look at the gateway changes in our rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    /// Nothing.
    Stay,
    /// The state moves, and nothing else.
    Become(PaymentState),
    /// Held becomes booked, the booking is pending: the money may be taken.
    Pin,
    /// Held becomes booked, and the booking is confirmed at once: the money is taken already.
    PinPaid,
    /// The money is taken but the seats are not ours: equal ones are booked if there are any, else the
    /// money goes back.
    Replace,
    /// The booking is confirmed.
    Confirm,
    /// The booking is undone, its seats are back on sale; the payment is in that state.
    Undo(PaymentState),
}

/// What follows for a payment in `state` from how its charge stands; `None` when the gateway has no
/// charge for it.
pub fn follow(state: PaymentState, seats: Seats, charge: Option<ChargeStatus>) -> Follow {
    use ChargeStatus as C;
    use PaymentState as P;
    let Some(charge) = charge else {
        return match (state, seats) {
            // Nothing was ever reserved, and there is nothing left to reserve it for.
            (P::Created, Seats::Lost | Seats::Gone) => Follow::Become(P::Failed),
            // Worth another try, or a gateway that forgot: either way no reason to move.
            _ => Follow::Stay,
        };
    };
    match (state, charge) {
        (P::Created | P::Authorized, C::Authorized) => match seats {
            Seats::Kept => Follow::Pin,
            _ if state == P::Authorized => Follow::Stay,
            _ => Follow::Become(P::Authorized),
        },
        (P::Created, C::Declined) => Follow::Become(P::Declined),
        (P::Created | P::Authorized, C::Voided) => Follow::Become(P::Voided),
        (P::Authorized, C::Declined) => Follow::Become(P::Voided),
        (P::Created | P::Authorized, C::Refunded) => Follow::Become(P::Refunded),
        (P::Created | P::Authorized | P::Declined | P::Voided | P::Failed, C::Captured) => {
            match seats {
                Seats::Kept => Follow::PinPaid,
                Seats::Lost => Follow::Replace,
                Seats::Booked | Seats::Gone => Follow::Become(P::Refunding),
            }
        }
        (P::Capturing, C::Captured) => Follow::Confirm,
        (P::Capturing, C::Voided | C::Declined) => Follow::Undo(P::Failed),
        (P::Capturing | P::Captured, C::Refunded) => Follow::Undo(P::Refunded),
        (P::Refunding, C::Refunded) => Follow::Become(P::Refunded),
        // A capture that never came about leaves nothing to give back.
        (P::Refunding, C::Voided | C::Declined) => Follow::Become(P::Voided),
        _ => Follow::Stay,
    }
}

/// What the gateway is asked to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Authorize,
    Capture,
    Void,
    Refund,
    /// Nothing: it is final, or somebody else's turn.
    Rest,
}

/// What the gateway is asked to do for a payment in `state` whose charge stands so.
pub fn next_step(state: PaymentState, seats: Seats, charge: Option<ChargeStatus>) -> Step {
    use ChargeStatus as C;
    use PaymentState as P;
    let kept = seats == Seats::Kept;
    match (state, charge) {
        (P::Created, None) if kept => Step::Authorize,
        // The buyer is still to do something for seats that are not there any more.
        (P::Created | P::Authorized, Some(C::Pending)) if !kept => Step::Void,
        (P::Authorized, Some(C::Authorized)) if !kept => Step::Void,
        (P::Capturing, Some(C::Authorized)) => Step::Capture,
        (P::Refunding, Some(C::Captured)) => Step::Refund,
        // Reserved only, so there is nothing to give back but the reservation.
        (P::Refunding, Some(C::Authorized | C::Pending)) => Step::Void,
        // A late success of what was over.
        (P::Declined | P::Voided | P::Failed, Some(C::Authorized | C::Pending)) => Step::Void,
        _ => Step::Rest,
    }
}

#[cfg(test)]
mod tests;
