//! A charge as clients see it.

use serde::Serialize;

use crate::charges::{Charge, Status};

#[derive(Debug, Serialize)]
pub struct ChargeView<'a> {
    #[serde(flatten)]
    charge: &'a Charge,
    /// Where the buyer goes for a further step.
    next_action: Option<String>,
}

impl ChargeView<'_> {
    pub fn new<'a>(charge: &'a Charge, base_url: &str) -> ChargeView<'a> {
        let pending = charge.status == Status::Pending;
        ChargeView {
            charge,
            next_action: pending.then(|| format!("{base_url}/steps/{}", charge.id)),
        }
    }
}
