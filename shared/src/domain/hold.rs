//! The life of a hold: seats kept for a buyer until `expires_at`, or a little longer while a payment that
//! began before is in flight.

use chrono::{DateTime, Utc};

/// What a hold is, or became.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldState {
    /// The seats are kept.
    Held,
    /// The seats are booked.
    Confirmed,
    /// Final: the seats were given back.
    Cancelled,
    /// Final: the time ran out.
    Expired,
}

impl HoldState {
    /// The word in the database and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            HoldState::Held => "held",
            HoldState::Confirmed => "confirmed",
            HoldState::Cancelled => "cancelled",
            HoldState::Expired => "expired",
        }
    }

    /// The state of that word, if there is one.
    pub fn parse(word: &str) -> Option<HoldState> {
        [
            HoldState::Held,
            HoldState::Confirmed,
            HoldState::Cancelled,
            HoldState::Expired,
        ]
        .into_iter()
        .find(|state| state.as_str() == word)
    }

    /// What it is at `now`: a hold is over at `kept_until`, whether or not a sweep has seen it.
    pub fn at(self, kept_until: DateTime<Utc>, now: DateTime<Utc>) -> HoldState {
        match self {
            HoldState::Held if kept_until <= now => HoldState::Expired,
            state => state,
        }
    }
}

/// Why a buyer cannot give a hold back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldRefusal {
    /// It is a booking now.
    AlreadyConfirmed,
    /// A payment for it is in flight.
    Paying,
}

impl HoldState {
    /// The state after its buyer gave it back; the same state when it was over before, so that a retry
    /// is harmless: the seats are back either way.
    pub fn cancel(self, paying: bool) -> Result<HoldState, HoldRefusal> {
        match self {
            HoldState::Held if paying => Err(HoldRefusal::Paying),
            HoldState::Held => Ok(HoldState::Cancelled),
            HoldState::Confirmed => Err(HoldRefusal::AlreadyConfirmed),
            HoldState::Cancelled | HoldState::Expired => Ok(self),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_is_over_at_the_instant_it_expires() {
        let expires_at = DateTime::UNIX_EPOCH;
        let before = expires_at - chrono::TimeDelta::milliseconds(1);
        assert_eq!(HoldState::Held.at(expires_at, before), HoldState::Held);
        assert_eq!(
            HoldState::Held.at(expires_at, expires_at),
            HoldState::Expired
        );
        assert_eq!(
            HoldState::Confirmed.at(expires_at, expires_at),
            HoldState::Confirmed
        );
    }

    #[test]
    fn giving_back_is_idempotent_and_what_is_paid_or_being_paid_is_kept() {
        use HoldState::{Cancelled, Confirmed, Expired, Held};
        for state in [Held, Cancelled, Expired] {
            let next = state.cancel(false).unwrap();
            assert_eq!(next.cancel(false), Ok(next));
        }
        assert_eq!(Held.cancel(true), Err(HoldRefusal::Paying));
        assert_eq!(Confirmed.cancel(false), Err(HoldRefusal::AlreadyConfirmed));
    }
}
