//! Looks at single charges, on the gateway as it is now.

use stampede_shared::store::payments::Reckoned;

use crate::gateway::{Charge, Gateway, GatewayError};

/// The charge of a payment whose charges the ledger does not have, because they are older.
pub async fn find_old(
    gateway: &dyn Gateway,
    payment: &Reckoned,
) -> Result<Option<Charge>, GatewayError> {
    if payment.gateway != gateway.name() {
        return Ok(None);
    }
    gateway
        .find(payment.payment_id, payment.charge_id.as_deref())
        .await
}

/// Brings the charges of a payment up to date, and adds the one that the payment names.
pub async fn renew(
    gateway: &dyn Gateway,
    payment: &Reckoned,
    charges: &mut Vec<Charge>,
) -> Result<(), GatewayError> {
    let known = charges.iter().map(|charge| charge.gateway_id.clone());
    let mut asked: Vec<Option<String>> = known.map(Some).collect();
    if !asked.contains(&payment.charge_id) {
        // Without an id, it is found by the payment.
        asked.push(payment.charge_id.clone());
    }
    for charge_id in asked {
        let found = gateway
            .find(payment.payment_id, charge_id.as_deref())
            .await?;
        if let Some(found) = found {
            charges.retain(|charge| charge.gateway_id != found.gateway_id);
            charges.push(found);
        }
    }
    Ok(())
}
