//! What something costs: all of it, and the part that is fees.
//!
//! Every sum is of all-in prices, so a total is never more than what was shown; the fees are summed
//! beside it and never added to it.

use super::Amount;

/// An all-in price. `0 <= fees <= total`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Price {
    /// All that is to be paid.
    pub total: Amount,
    /// The part of it that is fees.
    pub fees: Amount,
}

impl Price {
    /// Both together; `None` when it is beyond all money.
    pub fn checked_add(self, other: Price) -> Option<Price> {
        Some(Price {
            total: self.total.checked_add(other.total)?,
            fees: self.fees.checked_add(other.fees)?,
        })
    }

    /// So many times; `None` when it is beyond all money.
    pub fn checked_mul(self, quantity: i32) -> Option<Price> {
        Some(Price {
            total: self.total.checked_mul(Amount::from(quantity))?,
            fees: self.fees.checked_mul(Amount::from(quantity))?,
        })
    }
}

/// What is known of a price before it is known which seats it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quote {
    /// Whichever seats they are, they cost this.
    Fixed(Price),
    /// It depends on the seats; none cost less than this in all.
    From(Amount),
}

impl Quote {
    /// The least that will have to be paid.
    pub fn cheapest(self) -> Amount {
        match self {
            Quote::Fixed(price) => price.total,
            Quote::From(cheapest) => cheapest,
        }
    }

    /// So many times; `None` when it is beyond all money.
    pub fn checked_mul(self, quantity: i32) -> Option<Quote> {
        match self {
            Quote::Fixed(price) => price.checked_mul(quantity).map(Quote::Fixed),
            Quote::From(cheapest) => cheapest
                .checked_mul(Amount::from(quantity))
                .map(Quote::From),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fees_are_summed_beside_the_total() {
        let (seat, other) = (Price { total: 50, fees: 5 }, Price { total: 30, fees: 0 });
        let sum = Price { total: 80, fees: 5 };
        assert_eq!(seat.checked_add(other), Some(sum));
        let three = Price {
            total: 150,
            fees: 15,
        };
        assert_eq!(seat.checked_mul(3), Some(three));
    }

    #[test]
    fn what_is_beyond_all_money_is_no_price() {
        let huge = Price {
            total: Amount::MAX,
            fees: 0,
        };
        assert_eq!(huge.checked_mul(2), None);
        assert_eq!(huge.checked_add(huge), None);
    }
}
