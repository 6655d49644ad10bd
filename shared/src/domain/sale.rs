//! The state of a show's sale, and who may change it how.
//!
//! The stored state is what an operator last said; the opening and closing times are applied when it
//! is read, so nothing has to run at the moment they come.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Whether requests are accepted and decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SaleState {
    /// Not open yet: nothing is accepted.
    Scheduled,
    /// Requests are accepted and decided.
    Open,
    /// Requests are accepted and keep their positions; none is decided.
    Paused,
    /// Nothing is accepted.
    Closed,
}

impl SaleState {
    /// The word in the database and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            SaleState::Scheduled => "scheduled",
            SaleState::Open => "open",
            SaleState::Paused => "paused",
            SaleState::Closed => "closed",
        }
    }

    /// The state of that word, if there is one.
    pub fn parse(word: &str) -> Option<SaleState> {
        [
            SaleState::Scheduled,
            SaleState::Open,
            SaleState::Paused,
            SaleState::Closed,
        ]
        .into_iter()
        .find(|state| state.as_str() == word)
    }
}

/// A sale as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sale {
    /// What an operator last said.
    pub state: SaleState,
    /// Shown to buyers.
    pub reason: Option<String>,
    /// When a scheduled sale opens by itself.
    pub opens_at: Option<DateTime<Utc>>,
    /// When the sale stops accepting by itself. What was accepted before is still decided.
    pub closes_at: Option<DateTime<Utc>>,
}

impl Sale {
    /// The state that holds at `now`.
    pub fn state_at(&self, now: DateTime<Utc>) -> SaleState {
        if self.closes_at.is_some_and(|at| at <= now) {
            return SaleState::Closed;
        }
        match self.state {
            SaleState::Scheduled if self.opens_at.is_some_and(|at| at <= now) => SaleState::Open,
            state => state,
        }
    }

    /// What the worker does with the requests that wait.
    pub fn disposition(&self) -> Disposition {
        match self.state {
            SaleState::Paused => Disposition::Wait,
            SaleState::Closed => Disposition::Reject,
            SaleState::Scheduled | SaleState::Open => Disposition::Decide,
        }
    }
}

/// What becomes of the requests that are in the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// They are decided in order.
    Decide,
    /// They keep their positions.
    Wait,
    /// An operator closed the sale: each is rejected with `sale_closed`.
    Reject,
}

/// What an operator tells a sale to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SaleCommand {
    Open,
    Pause,
    Resume,
    Close,
}

impl SaleCommand {
    /// The state it leads to from `state`; `None` when it makes no sense there. Saying a thing twice
    /// is fine. A sale that an operator closed stays closed: its line was turned away.
    pub fn apply(self, state: SaleState) -> Option<SaleState> {
        use SaleState::{Closed, Open, Paused, Scheduled};
        match (self, state) {
            (SaleCommand::Open, Scheduled | Open) => Some(Open),
            (SaleCommand::Pause, Open | Paused) => Some(Paused),
            (SaleCommand::Resume, Paused | Open) => Some(Open),
            (SaleCommand::Close, Scheduled | Open | Paused | Closed) => Some(Closed),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    fn sale(state: SaleState) -> Sale {
        let opens_at = DateTime::UNIX_EPOCH + TimeDelta::seconds(100);
        let closes_at = DateTime::UNIX_EPOCH + TimeDelta::seconds(200);
        Sale {
            state,
            reason: None,
            opens_at: Some(opens_at),
            closes_at: Some(closes_at),
        }
    }

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
    }

    #[test]
    fn a_scheduled_sale_opens_and_closes_at_its_times() {
        let sale = sale(SaleState::Scheduled);
        assert_eq!(sale.state_at(at(99)), SaleState::Scheduled);
        assert_eq!(sale.state_at(at(100)), SaleState::Open);
        assert_eq!(sale.state_at(at(199)), SaleState::Open);
        assert_eq!(sale.state_at(at(200)), SaleState::Closed);
    }

    #[test]
    fn an_operator_can_open_early_and_the_closing_time_still_holds() {
        let sale = sale(SaleState::Open);
        assert_eq!(sale.state_at(at(1)), SaleState::Open);
        assert_eq!(sale.state_at(at(200)), SaleState::Closed);
    }

    #[test]
    fn what_was_accepted_before_the_closing_time_is_decided() {
        assert_eq!(sale(SaleState::Open).disposition(), Disposition::Decide);
        assert_eq!(sale(SaleState::Paused).disposition(), Disposition::Wait);
        assert_eq!(sale(SaleState::Closed).disposition(), Disposition::Reject);
    }

    #[test]
    fn a_closed_sale_stays_closed() {
        for command in [SaleCommand::Open, SaleCommand::Pause, SaleCommand::Resume] {
            assert_eq!(command.apply(SaleState::Closed), None);
        }
        assert_eq!(
            SaleCommand::Close.apply(SaleState::Closed),
            Some(SaleState::Closed)
        );
    }
}
