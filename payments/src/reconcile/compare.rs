//! Whether a payment of ours and its charges at the gateway tell the same story. No SQL, no clock.

use stampede_shared::{
    domain::payment::{ChargeStatus, PaymentState},
    store::payments::{NO_GATEWAY, Reckoned},
};

use crate::gateway::Charge;

/// Recovery looks at most so long after what is over, and again when a callback comes.
const OPEN_MAX_S: f64 = 3_600.0;

/// What a comparison finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The money is where we say it is.
    Clean,
    /// It is on its way, and the money is right whichever side is ahead.
    InFlight,
    /// The gateway reserves money for it that is not to be taken: to be let go.
    OpenAuthorization,
    /// (charge, what is wrong)
    Mismatch(Vec<(Option<String>, String)>),
}

/// Compares a payment with all charges for it. What has not moved for longer than `window_s` should have
/// been recovered. What is reserved for nothing is judged by the age of the payment: it may be moved by
/// every look at it.
pub fn compare(payment: &Reckoned, charges: &[Charge], window_s: f64) -> Finding {
    let mut wrong = Wrong::default();
    let Some(state) = PaymentState::parse(&payment.state) else {
        wrong.add(None, format!("no payment is ever {}", payment.state));
        return Finding::Mismatch(wrong.0);
    };
    check_booking(payment, state, &mut wrong);
    check_each(payment, charges, &mut wrong);
    let fresh = payment.rested_s < window_s;
    let mut finding = match state {
        _ if payment.gateway == NO_GATEWAY => Finding::Clean,
        PaymentState::Captured => check_captured(charges, &mut wrong),
        PaymentState::Refunded => check_refunded(charges, &mut wrong),
        PaymentState::Capturing | PaymentState::Refunding => {
            if charges.is_empty() {
                wrong.add(None, format!("it is {} without a charge", payment.state));
            }
            Finding::InFlight
        }
        PaymentState::Created | PaymentState::Authorized if fresh => Finding::InFlight,
        _ => check_untaken(payment, state, charges, &mut wrong),
    };
    if !state.is_moving() && payment.gateway != NO_GATEWAY {
        let overdue = payment.age_s >= window_s.max(OPEN_MAX_S);
        if check_open(payment, charges, overdue, &mut wrong) {
            finding = Finding::OpenAuthorization;
        }
    }
    if wrong.0.is_empty() {
        finding
    } else {
        Finding::Mismatch(wrong.0)
    }
}

/// (charge, what is wrong)
#[derive(Default)]
struct Wrong(Vec<(Option<String>, String)>);

impl Wrong {
    fn add(&mut self, charge: Option<&Charge>, what: String) {
        self.0
            .push((charge.map(|charge| charge.gateway_id.clone()), what));
    }
}

fn check_booking(payment: &Reckoned, state: PaymentState, wrong: &mut Wrong) {
    let booking = payment.booking_state.as_deref();
    let confirmed = booking == Some("confirmed");
    if (state == PaymentState::Captured) == confirmed {
        return;
    }
    let booking = booking.unwrap_or("none");
    wrong.add(
        None,
        format!("it is {} and its booking is {booking}", payment.state),
    );
}

/// What is wrong whatever the state is.
fn check_each(payment: &Reckoned, charges: &[Charge], wrong: &mut Wrong) {
    for charge in charges {
        if charge.currency != payment.currency {
            let (theirs, ours) = (&charge.currency, &payment.currency);
            wrong.add(Some(charge), format!("it is in {theirs}, not {ours}"));
        }
        if charge.captured != 0 && charge.captured != payment.amount {
            let (theirs, ours) = (charge.captured, payment.amount);
            wrong.add(Some(charge), format!("captured {theirs}, not {ours}"));
        }
        if charge.refunded > charge.captured {
            let (back, taken) = (charge.refunded, charge.captured);
            wrong.add(Some(charge), format!("refunded {back} of {taken}"));
        }
    }
    let taken = charges.iter().filter(|charge| charge.captured > 0);
    for charge in taken.skip(1) {
        wrong.add(Some(charge), "captured a second time".to_owned());
    }
    if let Some(id) = &payment.charge_id
        && !charges.iter().any(|charge| charge.gateway_id == *id)
    {
        wrong.0.push((
            Some(id.clone()),
            "the gateway does not have the charge".to_owned(),
        ));
    }
}

fn check_captured(charges: &[Charge], wrong: &mut Wrong) -> Finding {
    if !charges.iter().any(|charge| charge.captured > 0) {
        let status = charges.last().map(|charge| word(charge.status));
        let status = status.unwrap_or("absent");
        wrong.add(
            charges.last(),
            format!("captured here, {status} at the gateway"),
        );
    }
    for charge in charges.iter().filter(|charge| charge.refunded > 0) {
        let back = charge.refunded;
        wrong.add(
            Some(charge),
            format!("captured here, refunded {back} at the gateway"),
        );
    }
    Finding::Clean
}

fn check_refunded(charges: &[Charge], wrong: &mut Wrong) -> Finding {
    if charges.is_empty() {
        wrong.add(None, "refunded here, absent at the gateway".to_owned());
    }
    for charge in charges {
        let kept = charge.captured - charge.refunded;
        if kept > 0 {
            wrong.add(
                Some(charge),
                format!("refunded here, the gateway keeps {kept}"),
            );
        }
    }
    Finding::Clean
}

/// A payment for which nothing is to be taken.
fn check_untaken(
    payment: &Reckoned,
    state: PaymentState,
    charges: &[Charge],
    wrong: &mut Wrong,
) -> Finding {
    for charge in charges {
        let kept = charge.captured - charge.refunded;
        if kept > 0 {
            wrong.add(
                Some(charge),
                format!("{} here, the gateway keeps {kept}", payment.state),
            );
        }
    }
    if state.is_moving() {
        Finding::InFlight
    } else {
        Finding::Clean
    }
}

/// Charges that still reserve money although no more is to be taken. Returns whether there are any.
fn check_open(payment: &Reckoned, charges: &[Charge], overdue: bool, wrong: &mut Wrong) -> bool {
    let reserved = [ChargeStatus::Authorized, ChargeStatus::Pending];
    let mut open = charges
        .iter()
        .filter(|charge| reserved.contains(&charge.status))
        .peekable();
    let any = open.peek().is_some();
    for charge in open.filter(|_| overdue) {
        let status = word(charge.status);
        let text = format!("{} here, still {status} at the gateway", payment.state);
        wrong.add(Some(charge), text);
    }
    any
}

fn word(status: ChargeStatus) -> &'static str {
    match status {
        ChargeStatus::Pending => "pending",
        ChargeStatus::Declined => "declined",
        ChargeStatus::Authorized => "authorized",
        ChargeStatus::Captured => "captured",
        ChargeStatus::Refunded => "refunded",
        ChargeStatus::Voided => "voided",
    }
}

#[cfg(test)]
mod tests;
