//! The life of a hold: seats kept for a buyer until `expires_at`.

use chrono::{DateTime, Utc};

/// What a hold is, or became.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldState {
    /// The seats are kept.
    Held,
    /// Final: the seats are booked.
    Confirmed,
    /// Final: the buyer gave the seats back.
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

    /// What it is at `now`: a hold is over at `expires_at`, whether or not a sweep has seen it.
    pub fn at(self, expires_at: DateTime<Utc>, now: DateTime<Utc>) -> HoldState {
        match self {
            HoldState::Held if expires_at <= now => HoldState::Expired,
            state => state,
        }
    }
}

/// What a buyer does with a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldCommand {
    Confirm,
    Cancel,
}

/// Why it cannot be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldRefusal {
    Expired,
    AlreadyCancelled,
    AlreadyConfirmed,
}

impl HoldCommand {
    /// The state that follows; the same state when it was done before, so that a retry is harmless.
    /// Cancelling what has expired is fine too: the seats are back either way.
    pub fn apply(self, state: HoldState) -> Result<HoldState, HoldRefusal> {
        match (self, state) {
            (HoldCommand::Confirm, HoldState::Held | HoldState::Confirmed) => {
                Ok(HoldState::Confirmed)
            }
            (HoldCommand::Confirm, HoldState::Cancelled) => Err(HoldRefusal::AlreadyCancelled),
            (HoldCommand::Confirm, HoldState::Expired) => Err(HoldRefusal::Expired),
            (HoldCommand::Cancel, HoldState::Held) => Ok(HoldState::Cancelled),
            (HoldCommand::Cancel, HoldState::Confirmed) => Err(HoldRefusal::AlreadyConfirmed),
            (HoldCommand::Cancel, state @ (HoldState::Cancelled | HoldState::Expired)) => Ok(state),
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
    fn commands_are_idempotent_and_final_states_stay() {
        for state in [
            HoldState::Held,
            HoldState::Confirmed,
            HoldState::Cancelled,
            HoldState::Expired,
        ] {
            for command in [HoldCommand::Confirm, HoldCommand::Cancel] {
                if let Ok(next) = command.apply(state) {
                    assert_eq!(command.apply(next), Ok(next));
                    assert!(state == HoldState::Held || next == state);
                }
            }
        }
    }
}
