//! Finds the intent of a payment: by its id, or by ours in its metadata.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    PAGE, Stripe,
    calls::Problem,
    intent::{Intent, Page},
};
use crate::gateway::{Charge, GatewayError};

/// How far Stripe's search may lag behind, at worst.
const SEARCH_LAG_SECONDS: u64 = 3_600;

/// How far Stripe's clock may be behind ours, at most.
const CLOCK_SKEW_SECONDS: u64 = 60;

/// How many pages are read for a payment that the search does not know yet.
const PAGES_MAX: usize = 10;

impl Stripe {
    /// How the charge of an intent stands now.
    pub(super) async fn look(&self, id: &str) -> Result<Charge, GatewayError> {
        Ok(self.retrieve(id).await?.charge()?)
    }

    pub(super) async fn retrieve(&self, id: &str) -> Result<Intent, Problem> {
        let path = ["v1", "payment_intents", id];
        self.calls
            .get(&path, &[("expand[]", "latest_charge")])
            .await
    }

    /// The charge of a payment of which we have not heard what Stripe calls it.
    pub(super) async fn find_by_payment(
        &self,
        payment_id: Uuid,
    ) -> Result<Option<Charge>, GatewayError> {
        let mut found = self.search(payment_id).await?;
        if found.is_empty() && is_young(payment_id, Utc::now()) {
            found = self.look_through_list(payment_id).await?;
        }
        // What was found tells only which it is; the search may be late about how it stands, too.
        let Some(best) = found.into_iter().max_by_key(Intent::weight) else {
            return Ok(None);
        };
        self.look(&best.id).await.map(Some)
    }

    async fn search(&self, payment_id: Uuid) -> Result<Vec<Intent>, Problem> {
        let query = format!("metadata['payment_id']:'{payment_id}'");
        let path = ["v1", "payment_intents", "search"];
        let page: Page = self
            .calls
            .get(&path, &[("query", query.as_str()), ("limit", PAGE)])
            .await?;
        // The search compares without regard to case, and a stand-in may ignore the query.
        let ours = |intent: &Intent| intent.payment_id() == Some(payment_id);
        Ok(page.data.into_iter().filter(ours).collect())
    }

    /// Looks at every intent that was made since the payment was, which the search may not know yet.
    async fn look_through_list(&self, payment_id: Uuid) -> Result<Vec<Intent>, Problem> {
        let since = minted_at(payment_id).unwrap_or_default();
        let since = since.saturating_sub(CLOCK_SKEW_SECONDS).to_string();
        let mut after: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let mut query = vec![("limit", PAGE), ("created[gte]", since.as_str())];
            query.extend(after.as_deref().map(|id| ("starting_after", id)));
            let page: Page = self.calls.get(&["v1", "payment_intents"], &query).await?;
            after = page.next();
            let ours = |intent: &Intent| intent.payment_id() == Some(payment_id);
            let found: Vec<Intent> = page.data.into_iter().filter(ours).collect();
            if !found.is_empty() || after.is_none() {
                return Ok(found);
            }
        }
        Err(Problem::Unclear(format!(
            "not in the search, which may lag, nor among the first {PAGES_MAX} pages of the list"
        )))
    }
}

/// Whether the search may not know an intent of this payment yet. Our ids carry their time.
fn is_young(payment_id: Uuid, now: DateTime<Utc>) -> bool {
    let now = u64::try_from(now.timestamp()).unwrap_or_default();
    minted_at(payment_id).is_some_and(|minted| minted + SEARCH_LAG_SECONDS > now)
}

/// The second in which a UUID of version 7 was made.
fn minted_at(id: Uuid) -> Option<u64> {
    Some(id.get_timestamp()?.to_unix().0)
}
