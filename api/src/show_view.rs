//! A show as anyone may see it.

use axum::http::HeaderValue;
use chrono::{DateTime, Utc};
use serde::Serialize;
use stampede_shared::{
    domain::{
        payment::PaymentPolicy,
        sale::{Sale, SaleState},
        seat_map::Category,
    },
    store::shows::Show,
};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{extract::etag_of, submission::Money};

/// A show.
#[derive(Serialize, ToSchema)]
pub struct ShowView {
    id: Uuid,
    name: String,
    currency: String,
    /// The most seats and places that one buyer can have.
    buyer_limit: i32,
    /// How long seats are kept for a buyer.
    hold_seconds: i32,
    /// Whether what costs something is paid, `required` or `complimentary`.
    #[schema(value_type = String, example = "required")]
    payment_policy: PaymentPolicy,
    /// Until when buyers may cancel their bookings; null: only operators can.
    refundable_until: Option<DateTime<Utc>>,
    opens_at: Option<DateTime<Utc>>,
    closes_at: Option<DateTime<Utc>>,
    sale: SaleView,
    sections: Vec<SectionView>,
    server_time: DateTime<Utc>,
}

/// Whether requests are accepted and decided.
#[derive(Debug, Serialize, ToSchema)]
pub struct SaleView {
    #[schema(value_type = String, example = "open")]
    state: SaleState,
    /// What the operator tells the buyers.
    reason: Option<String>,
}

/// A part of the hall.
#[derive(Serialize, ToSchema)]
pub struct SectionView {
    name: String,
    #[schema(example = "seated")]
    kind: &'static str,
    /// All-in, for each seat without a category, or each place.
    price: Money,
    /// The part of the price that is fees.
    fee: Money,
    /// Other prices, which seats name; of general admission none.
    categories: Vec<CategoryView>,
    capacity: i32,
}

/// A price that some seats of a section have.
#[derive(Serialize, ToSchema)]
pub struct CategoryView {
    name: String,
    /// All-in, for each seat.
    price: Money,
    /// The part of the price that is fees.
    fee: Money,
}

impl ShowView {
    pub fn new(show: &Show, sale: &Sale, now: DateTime<Utc>) -> ShowView {
        let money = |amount| Money {
            amount,
            currency: show.currency.clone(),
        };
        let category = |category: &Category| CategoryView {
            name: category.name.clone(),
            price: money(category.price),
            fee: money(category.fee),
        };
        let sections = show.sections.iter().map(|section| SectionView {
            name: section.name.clone(),
            kind: section.kind.as_str(),
            price: money(section.price),
            fee: money(section.fee),
            categories: section.categories.iter().map(category).collect(),
            capacity: section.capacity,
        });
        ShowView {
            id: show.show_id,
            name: show.name.clone(),
            currency: show.currency.clone(),
            buyer_limit: show.buyer_limit,
            hold_seconds: show.hold_seconds,
            payment_policy: show.payment_policy,
            refundable_until: show.refundable_until,
            opens_at: show.opens_at,
            closes_at: show.closes_at,
            sale: SaleView::new(sale, now),
            sections: sections.collect(),
            server_time: now,
        }
    }

    /// The same show in the same state of sale.
    pub fn etag(&self) -> HeaderValue {
        etag_of(&(self.id, &self.sale))
    }
}

impl SaleView {
    pub fn new(sale: &Sale, now: DateTime<Utc>) -> SaleView {
        SaleView {
            state: sale.state_at(now),
            reason: sale.reason.clone(),
        }
    }
}
