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

/// The parts in which the list is read, in seconds from when an intent may have been made at the earliest.
///
/// Stripe lists the newest first, and a busy sale makes thousands after ours, so the list is bounded from
/// above as well. Nearly every intent is made within half a minute of the payment, that is while its first
/// call lasts. Recovery says a lost call anew while the hold and its fence last: a quarter of an hour as
/// they are usually set. They may be set to hours, hence the last part, which ends when the search is sure
/// to know.
const PARTS_END: [u64; 3] = [90, 960, SEARCH_LAG_SECONDS + 2 * CLOCK_SKEW_SECONDS];

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
        if found.is_empty() {
            found = self.look_through_list(payment_id, Utc::now()).await?;
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

    /// Looks at every intent that was made since the payment was, when that is so short a time ago that the
    /// search may not know it yet.
    async fn look_through_list(
        &self,
        payment_id: Uuid,
        now: DateTime<Utc>,
    ) -> Result<Vec<Intent>, Problem> {
        let now = u64::try_from(now.timestamp()).unwrap_or_default();
        let young = minted_at(payment_id).filter(|minted| minted + SEARCH_LAG_SECONDS > now);
        let Some(minted) = young else {
            return Ok(Vec::new());
        };
        let earliest = minted.saturating_sub(CLOCK_SKEW_SECONDS);
        let mut since = earliest;
        let mut pages_left = PAGES_MAX;
        for end in PARTS_END {
            if since > now + CLOCK_SKEW_SECONDS {
                break;
            }
            let until = earliest + end;
            let found = self
                .look_through_part(payment_id, since, until, &mut pages_left)
                .await?;
            if !found.is_empty() {
                return Ok(found);
            }
            since = until + 1;
        }
        Ok(Vec::new())
    }

    /// Looks at every intent that was made in the seconds from `since` to `until`.
    async fn look_through_part(
        &self,
        payment_id: Uuid,
        since: u64,
        until: u64,
        pages_left: &mut usize,
    ) -> Result<Vec<Intent>, Problem> {
        let (since, until) = (since.to_string(), until.to_string());
        let mut after: Option<String> = None;
        while *pages_left > 0 {
            *pages_left -= 1;
            let mut query = vec![
                ("limit", PAGE),
                ("created[gte]", since.as_str()),
                ("created[lte]", until.as_str()),
            ];
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

/// The second in which a UUID of version 7 was made.
fn minted_at(id: Uuid) -> Option<u64> {
    Some(id.get_timestamp()?.to_unix().0)
}
