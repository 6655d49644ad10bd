//! Every state against every charge, and every way in which they can differ.

use chrono::DateTime;
use uuid::Uuid;

use super::*;

const WINDOW_S: f64 = 600.0;

fn payment(state: &str) -> Reckoned {
    let booking = match state {
        "captured" => Some("confirmed"),
        "capturing" => Some("pending"),
        "refunding" | "refunded" => Some("cancelled"),
        _ => None,
    };
    Reckoned {
        show_id: Uuid::nil(),
        payment_id: Uuid::nil(),
        gateway: "simulated".to_owned(),
        state: state.to_owned(),
        amount: 8_500,
        currency: "EUR".to_owned(),
        charge_id: None,
        created_at: DateTime::UNIX_EPOCH,
        moved_at: DateTime::UNIX_EPOCH,
        age_s: 1.0,
        rested_s: 1.0,
        booking_state: booking.map(str::to_owned),
    }
}

fn charge(status: ChargeStatus) -> Charge {
    let (captured, refunded) = match status {
        ChargeStatus::Captured => (8_500, 0),
        ChargeStatus::Refunded => (8_500, 8_500),
        _ => (0, 0),
    };
    Charge {
        gateway_id: "ch_1".to_owned(),
        status,
        captured,
        refunded,
        currency: "EUR".to_owned(),
        next_action: None,
        reason: None,
        payment_id: Some(Uuid::nil()),
        show_id: Some(Uuid::nil()),
    }
}

fn old(payment: Reckoned) -> Reckoned {
    Reckoned {
        age_s: OPEN_MAX_S + 1.0,
        rested_s: WINDOW_S + 1.0,
        ..payment
    }
}

/// What is wrong, joined; the word of the finding if nothing is.
fn found(payment: &Reckoned, charges: &[Charge]) -> String {
    match compare(payment, charges, WINDOW_S) {
        Finding::Clean => "clean".to_owned(),
        Finding::InFlight => "in flight".to_owned(),
        Finding::OpenAuthorization => "open".to_owned(),
        Finding::Mismatch(wrong) => {
            let texts: Vec<String> = wrong.into_iter().map(|(_, what)| what).collect();
            texts.join("; ")
        }
    }
}

#[test]
fn each_state_and_each_charge_have_one_finding() {
    use ChargeStatus as C;
    let table = [
        ("captured", Some(C::Captured), "clean"),
        (
            "captured",
            Some(C::Authorized),
            "captured here, authorized at the gateway",
        ),
        (
            "captured",
            Some(C::Voided),
            "captured here, voided at the gateway",
        ),
        (
            "captured",
            Some(C::Refunded),
            "captured here, refunded 8500 at the gateway",
        ),
        ("captured", None, "captured here, absent at the gateway"),
        ("refunded", Some(C::Refunded), "clean"),
        (
            "refunded",
            Some(C::Captured),
            "refunded here, the gateway keeps 8500",
        ),
        ("refunded", None, "refunded here, absent at the gateway"),
        ("declined", Some(C::Declined), "clean"),
        (
            "declined",
            Some(C::Captured),
            "declined here, the gateway keeps 8500",
        ),
        ("declined", Some(C::Authorized), "open"),
        ("declined", Some(C::Refunded), "clean"),
        ("voided", Some(C::Voided), "clean"),
        ("voided", Some(C::Authorized), "open"),
        (
            "voided",
            Some(C::Captured),
            "voided here, the gateway keeps 8500",
        ),
        ("failed", None, "clean"),
        ("failed", Some(C::Pending), "open"),
        (
            "failed",
            Some(C::Captured),
            "failed here, the gateway keeps 8500",
        ),
        ("created", None, "in flight"),
        ("created", Some(C::Captured), "in flight"),
        ("authorized", Some(C::Authorized), "in flight"),
        ("capturing", Some(C::Authorized), "in flight"),
        ("capturing", Some(C::Captured), "in flight"),
        ("capturing", None, "it is capturing without a charge"),
        ("refunding", Some(C::Captured), "in flight"),
        ("refunding", Some(C::Refunded), "in flight"),
        ("refunding", None, "it is refunding without a charge"),
    ];
    for (state, status, expected) in table {
        let charges: Vec<Charge> = status.map(charge).into_iter().collect();
        assert_eq!(
            found(&payment(state), &charges),
            expected,
            "{state} {status:?}"
        );
    }
}

#[test]
fn what_recovery_should_have_ended_is_a_mismatch() {
    use ChargeStatus as C;
    let table = [
        (
            "declined",
            C::Authorized,
            "declined here, still authorized at the gateway",
        ),
        (
            "voided",
            C::Pending,
            "voided here, still pending at the gateway",
        ),
        (
            "created",
            C::Captured,
            "created here, the gateway keeps 8500",
        ),
        (
            "authorized",
            C::Captured,
            "authorized here, the gateway keeps 8500",
        ),
        ("created", C::Pending, "in flight"),
    ];
    for (state, status, expected) in table {
        let payment = old(payment(state));
        assert_eq!(
            found(&payment, &[charge(status)]),
            expected,
            "{state} {status:?}"
        );
    }
}

#[test]
fn what_is_reserved_for_nothing_is_a_mismatch_however_often_it_was_looked_at() {
    let expected = "voided here, still authorized at the gateway";
    let looked_at = Reckoned {
        rested_s: 1.0,
        ..old(payment("voided"))
    };
    let reserved = [charge(ChargeStatus::Authorized)];
    assert_eq!(found(&looked_at, &reserved), expected);
    let young = Reckoned {
        age_s: OPEN_MAX_S - 1.0,
        ..old(payment("voided"))
    };
    assert_eq!(found(&young, &reserved), "open");
}

#[test]
fn a_second_charge_that_still_reserves_money_is_shown() {
    use ChargeStatus as C;
    let table = [
        ("captured", C::Captured, C::Authorized, "open"),
        ("captured", C::Captured, C::Pending, "open"),
        ("captured", C::Captured, C::Voided, "clean"),
        ("refunded", C::Refunded, C::Authorized, "open"),
        ("voided", C::Voided, C::Authorized, "open"),
        ("capturing", C::Captured, C::Authorized, "in flight"),
    ];
    for (state, first, second, expected) in table {
        let both = [charge(first), charge(second)];
        assert_eq!(
            found(&payment(state), &both),
            expected,
            "{state} {second:?}"
        );
    }
    let both = [charge(C::Captured), charge(C::Authorized)];
    let expected = "captured here, still authorized at the gateway";
    assert_eq!(found(&old(payment("captured")), &both), expected);
}

#[test]
fn a_cent_or_a_currency_makes_a_mismatch() {
    let captured = charge(ChargeStatus::Captured);
    let less = Charge {
        captured: 8_499,
        ..captured.clone()
    };
    assert_eq!(
        found(&payment("captured"), &[less]),
        "captured 8499, not 8500"
    );
    let other = Charge {
        currency: "USD".to_owned(),
        ..captured.clone()
    };
    assert_eq!(
        found(&payment("captured"), &[other]),
        "it is in USD, not EUR"
    );
    let part = Charge {
        refunded: 1,
        ..captured
    };
    let expected = "captured here, refunded 1 at the gateway";
    assert_eq!(
        found(&payment("captured"), std::slice::from_ref(&part)),
        expected
    );
    let expected = "refunded here, the gateway keeps 8499";
    assert_eq!(found(&payment("refunded"), &[part]), expected);
    let more = Charge {
        refunded: 8_501,
        ..charge(ChargeStatus::Refunded)
    };
    assert_eq!(
        found(&payment("refunded"), &[more]),
        "refunded 8501 of 8500"
    );
}

#[test]
fn two_captured_charges_are_a_mismatch_even_if_one_was_refunded() {
    let (captured, refunded) = (
        charge(ChargeStatus::Captured),
        charge(ChargeStatus::Refunded),
    );
    let twice = [captured.clone(), captured.clone()];
    assert_eq!(
        found(&payment("captured"), &twice),
        "captured a second time"
    );
    let twice = found(&payment("refunded"), &[refunded.clone(), refunded]);
    assert_eq!(twice, "captured a second time");
    let retried = [charge(ChargeStatus::Declined), captured];
    assert_eq!(found(&payment("captured"), &retried), "clean");
}

#[test]
fn a_charge_that_we_know_and_the_gateway_does_not_is_a_mismatch() {
    let known = Reckoned {
        charge_id: Some("ch_2".to_owned()),
        ..payment("voided")
    };
    assert_eq!(found(&known, &[]), "the gateway does not have the charge");
    let other = found(&known, &[charge(ChargeStatus::Voided)]);
    assert_eq!(other, "the gateway does not have the charge");
}

#[test]
fn a_captured_payment_and_a_confirmed_booking_need_each_other() {
    let captured = [charge(ChargeStatus::Captured)];
    let unbooked = Reckoned {
        booking_state: None,
        ..payment("captured")
    };
    assert_eq!(
        found(&unbooked, &captured),
        "it is captured and its booking is none"
    );
    let cancelled = Reckoned {
        booking_state: Some("cancelled".to_owned()),
        ..unbooked
    };
    assert_eq!(
        found(&cancelled, &captured),
        "it is captured and its booking is cancelled"
    );
    let unpaid = Reckoned {
        booking_state: Some("confirmed".to_owned()),
        ..payment("voided")
    };
    assert_eq!(
        found(&unpaid, &[]),
        "it is voided and its booking is confirmed"
    );
    let free = Reckoned {
        gateway: NO_GATEWAY.to_owned(),
        amount: 0,
        ..payment("captured")
    };
    assert_eq!(found(&free, &[]), "clean");
}
