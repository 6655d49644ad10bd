//! Every lie about money is found, and no truth is called one.

use stampede_payments::gateway::ChargeStatus;

use super::*;
use crate::{
    calls::{HoldAnswer, Money},
    figures::{Decided, End, Outcome, Submission},
};

const ID: Uuid = Uuid::from_u128(1);
const BOOKING: Uuid = Uuid::from_u128(2);

fn story(told: Told) -> Payment {
    Payment {
        id: Some(ID),
        told,
        hangs: false,
        took: std::time::Duration::ZERO,
    }
}

fn record(told: Told) -> Record {
    let hold = HoldAnswer {
        id: Uuid::from_u128(3),
        seats: Vec::new(),
        section: None,
        quantity: 1,
        total: Money { amount: 9_000 },
        fees: Money { amount: 900 },
    };
    Record {
        index: 0,
        intended: Default::default(),
        submission: Submission::GaveUp(String::new()),
        outcome: Some(Outcome {
            state: Decided::Held,
            reason: None,
            hold: Some(Box::new(hold)),
            accepted_at: DateTime::UNIX_EPOCH,
            decided_at: DateTime::UNIX_EPOCH,
            at: Default::default(),
        }),
        payments: vec![story(told)],
        end: End::Unknown,
    }
}

fn row(state: &str, booking_state: Option<&str>) -> PaymentAccount {
    PaymentAccount {
        payment_id: ID,
        hold_id: Uuid::from_u128(3),
        state: state.to_owned(),
        amount: 9_000,
        waits: false,
        booking_id: booking_state.map(|_| BOOKING),
        booking_state: booking_state.map(str::to_owned),
        confirmed_at: None,
    }
}

fn charge(captured: i64, refunded: i64) -> Charge {
    Charge {
        gateway_id: "ch_1".to_owned(),
        status: ChargeStatus::Captured,
        captured,
        refunded,
        currency: "EUR".to_owned(),
        next_action: None,
        reason: None,
        payment_id: Some(ID),
        show_id: None,
    }
}

fn rules(told: Told, row: PaymentAccount, charges: &[Charge]) -> Vec<&'static str> {
    let rows = Rows(HashMap::from([(ID, row)]));
    let charges = Charges(HashMap::from([(ID, charges.to_vec())]));
    let found = compare(&[record(told)], Some(&rows), Some(&charges));
    found.iter().map(|violation| violation.rule).collect()
}

#[test]
fn true_stories_are_found_true() {
    let booked = || row("captured", Some("confirmed"));
    let told = Told::Booked(BOOKING);
    assert_eq!(rules(told, booked(), &[charge(9_000, 0)]), [""; 0]);
    let open = charge(0, 0);
    assert_eq!(rules(told, booked(), &[open, charge(9_000, 0)]), [""; 0]);
    let cancelled = row("refunded", Some("cancelled"));
    assert_eq!(rules(told, cancelled, &[charge(9_000, 9_000)]), [""; 0]);
    for (told, state) in [
        (Told::Declined, "declined"),
        (Told::Expired, "voided"),
        (Told::NotCharged, "failed"),
    ] {
        assert_eq!(rules(told, row(state, None), &[charge(0, 0)]), [""; 0]);
        assert_eq!(rules(told, row(state, None), &[]), [""; 0]);
    }
    let waiting = PaymentAccount {
        waits: true,
        ..row("created", None)
    };
    assert_eq!(rules(Told::Waits, waiting, &[charge(0, 0)]), [""; 0]);
    // Who went away may have paid.
    let money = [charge(9_000, 0)];
    assert_eq!(rules(Told::Nothing, booked(), &money), [""; 0]);
}

#[test]
fn who_was_told_of_a_booking_has_it() {
    let told = Told::Booked(BOOKING);
    let money = [charge(9_000, 0)];
    let another = PaymentAccount {
        booking_id: Some(Uuid::from_u128(9)),
        ..row("captured", Some("confirmed"))
    };
    for row in [
        another,
        row("captured", Some("pending")),
        row("captured", None),
        row("voided", None),
    ] {
        assert!(rules(told, row, &money).contains(&"paid_is_booked"));
    }
    let none = Rows(HashMap::new());
    let found = compare(&[record(told)], Some(&none), None);
    assert_eq!(found[0].rule, "paid_is_booked");
}

#[test]
fn who_was_told_of_a_booking_is_charged_exactly_once() {
    for charges in [
        vec![],
        vec![charge(0, 0)],
        vec![charge(8_999, 0)],
        vec![charge(9_000, 9_000)],
        vec![charge(9_000, 0), charge(9_000, 0)],
    ] {
        let booked = row("captured", Some("confirmed"));
        let found = rules(Told::Booked(BOOKING), booked, &charges);
        assert_eq!(found, ["paid_is_charged_once"], "{charges:?}");
    }
}

#[test]
fn who_was_told_that_nothing_is_charged_is_not_charged() {
    for told in [Told::Declined, Told::Expired, Told::NotCharged, Told::Waits] {
        let found = rules(told, row("declined", None), &[charge(9_000, 0)]);
        assert!(found.contains(&"unpaid_is_not_charged"), "{found:?}");
        let found = rules(
            told,
            row("captured", Some("confirmed")),
            &[charge(9_000, 0)],
        );
        assert_eq!(found, ["unpaid_is_not_charged"]);
    }
}

#[test]
fn money_without_a_booking_is_found_whoever_it_is_of() {
    let found = rules(Told::Nothing, row("voided", None), &[charge(9_000, 0)]);
    assert_eq!(found, ["no_charge_without_booking"]);
    let charges = Charges(HashMap::from([(ID, vec![charge(1, 0)])]));
    let found = compare(&[], Some(&Rows(HashMap::new())), Some(&charges));
    assert_eq!(found[0].rule, "no_charge_without_booking");
}

#[test]
fn a_payment_that_does_not_end_is_found() {
    for state in ["created", "authorized", "capturing", "refunding"] {
        let found = rules(Told::Nothing, row(state, None), &[]);
        assert_eq!(found, ["payments_come_to_an_end"], "{state}");
    }
}
