//! The body that creates a show, and how its rows become a seat map.

mod prices;

use std::{collections::HashSet, ops::RangeInclusive};

use chrono::{DateTime, Datelike, Utc};
use serde::Deserialize;
use stampede_shared::{
    domain::{
        payment::PaymentPolicy,
        seat_map::{Category, Seat, SeatMap, Section, SectionKind},
    },
    store::shows::NewShow,
};
use utoipa::ToSchema;
use uuid::Uuid;

use self::prices::CategoryBody;
use crate::{
    error::{FieldError, Problem},
    submission::Money,
};

const SECTIONS_MAX: usize = 500;
const SEATS_MAX: usize = 100_000;
/// Seats and aisles in a row.
const ROW_MAX: usize = 1_000;
const CAPACITY: RangeInclusive<i64> = 1..=1_000_000;
const BUYER_LIMIT: RangeInclusive<i64> = 1..=1_000;
const HOLD_SECONDS: RangeInclusive<i64> = 1..=86_400;
const QUEUE_LIMIT: RangeInclusive<i64> = 1..=10_000_000;
const YEARS: RangeInclusive<i32> = 2000..=9999;
const NAME_LENGTH_MAX: usize = 200;
const LABEL_LENGTH_MAX: usize = 50;

/// More errors than these help nobody.
const ERRORS_MAX: usize = 20;

/// A show that is to be created.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ShowBody {
    name: String,
    /// ISO 4217; all prices are in it.
    #[schema(example = "EUR")]
    currency: String,
    /// The most seats and places that one buyer can have: 1 to 1000.
    #[serde(default = "default_buyer_limit")]
    #[schema(default = 8)]
    buyer_limit: i64,
    /// How long seats are kept for a buyer: 1 to 86400.
    #[serde(default = "default_hold_seconds")]
    #[schema(default = 600)]
    hold_seconds: i64,
    /// The most requests that may be in the line: 1 to 10000000.
    #[serde(default = "default_queue_limit")]
    #[schema(default = 200_000)]
    queue_limit: i64,
    /// `required`: what costs something is paid at the gateway. `complimentary`: nothing is paid,
    /// whatever the prices say.
    #[serde(default = "default_payment_policy")]
    #[schema(value_type = String, default = "required")]
    payment_policy: PaymentPolicy,
    /// Until when buyers may cancel their bookings and get their money back; absent: only operators can.
    refundable_until: Option<DateTime<Utc>>,
    /// When the sale opens by itself; an operator can open it before.
    opens_at: Option<DateTime<Utc>>,
    /// When it stops taking requests by itself.
    closes_at: Option<DateTime<Utc>>,
    sections: Vec<SectionBody>,
}

fn default_buyer_limit() -> i64 {
    8
}

fn default_hold_seconds() -> i64 {
    600
}

fn default_queue_limit() -> i64 {
    200_000
}

fn default_payment_policy() -> PaymentPolicy {
    PaymentPolicy::Required
}

/// A part of the hall.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SectionBody {
    name: String,
    kind: KindBody,
    /// All-in, for each seat without a category, or each place.
    price: Money,
    /// The part of the price that is fees; none when absent.
    fee: Option<Money>,
    /// Of `seated`: other prices, which seats name; at most 50.
    categories: Option<Vec<CategoryBody>>,
    /// Of `seated`: from the best row to the worst.
    rows: Option<Vec<RowBody>>,
    /// Of `general_admission`: how many places.
    capacity: Option<i64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum KindBody {
    Seated,
    GeneralAdmission,
}

/// A row of seats.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RowBody {
    /// In the order in which they stand; null is an aisle, across which nobody is a neighbour.
    seats: Vec<Option<SeatBody>>,
}

/// A seat.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SeatBody {
    /// Unique in the show.
    #[schema(example = "A-12")]
    label: String,
    /// The name of one of its section's categories; without one it costs the section's price.
    #[schema(example = "Front rows")]
    category: Option<String>,
    /// Where to draw it; its place in the row when absent.
    x: Option<f32>,
    y: Option<f32>,
    /// Lower is better, in the section. When absent: rows in their order, in a row from its middle.
    rank: Option<i32>,
}

impl ShowBody {
    /// The show with its map; else everything that is wrong, up to a bound.
    pub fn resolve(self, show_id: Uuid) -> Result<NewShow, Problem> {
        let mut errors = Vec::new();
        check_text("/name", &self.name, NAME_LENGTH_MAX, &mut errors);
        if self.currency.len() != 3 || !self.currency.bytes().all(|b| b.is_ascii_uppercase()) {
            let detail = "the currency is three capital letters (ISO 4217)";
            errors.push(FieldError::new("/currency", detail));
        }
        let buyer_limit = number("/buyer_limit", self.buyer_limit, BUYER_LIMIT, &mut errors);
        let hold_seconds = number(
            "/hold_seconds",
            self.hold_seconds,
            HOLD_SECONDS,
            &mut errors,
        );
        let queue_limit = number("/queue_limit", self.queue_limit, QUEUE_LIMIT, &mut errors);
        self.check_times(&mut errors);
        let map = resolve_map(&self.sections, &self.currency, &mut errors);
        if !errors.is_empty() {
            errors.truncate(ERRORS_MAX);
            return Err(Problem::invalid_body(errors));
        }
        Ok(NewShow {
            show_id,
            name: self.name,
            currency: self.currency,
            buyer_limit,
            hold_seconds,
            queue_limit,
            payment_policy: self.payment_policy,
            refundable_until: self.refundable_until,
            opens_at: self.opens_at,
            closes_at: self.closes_at,
            map,
        })
    }

    fn check_times(&self, errors: &mut Vec<FieldError>) {
        for (pointer, time) in [
            ("/opens_at", self.opens_at),
            ("/closes_at", self.closes_at),
            ("/refundable_until", self.refundable_until),
        ] {
            if time.is_some_and(|time| !YEARS.contains(&time.year())) {
                errors.push(FieldError::new(pointer, "the year must be 2000 to 9999"));
            }
        }
        if let (Some(opens_at), Some(closes_at)) = (self.opens_at, self.closes_at)
            && opens_at >= closes_at
        {
            errors.push(FieldError::new(
                "/closes_at",
                "it must close after it opens",
            ));
        }
    }
}

/// Visible text that Postgres can store: not empty, not too long, no control characters.
pub fn check_text(pointer: &str, text: &str, length_max: usize, errors: &mut Vec<FieldError>) {
    if text.trim().is_empty() || text.chars().count() > length_max {
        errors.push(FieldError::new(
            pointer,
            format!("it must have 1 to {length_max} characters"),
        ));
    } else if text.chars().any(char::is_control) {
        errors.push(FieldError::new(
            pointer,
            "it must not have control characters",
        ));
    }
}

fn number(
    pointer: &str,
    number: i64,
    range: RangeInclusive<i64>,
    errors: &mut Vec<FieldError>,
) -> i32 {
    if !range.contains(&number) {
        let detail = format!("it must be {} to {}", range.start(), range.end());
        errors.push(FieldError::new(pointer, detail));
        return 0;
    }
    i32::try_from(number).unwrap_or_default()
}

fn resolve_map(sections: &[SectionBody], currency: &str, errors: &mut Vec<FieldError>) -> SeatMap {
    if !(1..=SECTIONS_MAX).contains(&sections.len()) {
        let detail = format!("there must be 1 to {SECTIONS_MAX} sections");
        errors.push(FieldError::new("/sections", detail));
        return SeatMap::default();
    }
    let rows = sections
        .iter()
        .flat_map(|section| section.rows.iter().flatten());
    if rows.map(|row| row.seats.len()).sum::<usize>() > SEATS_MAX {
        let detail = format!("a show can have at most {SEATS_MAX} seats and aisles");
        errors.push(FieldError::new("/sections", detail));
        return SeatMap::default();
    }
    let mut builder = MapBuilder::new(currency);
    for (no, section) in (0..).zip(sections) {
        builder.section(no, section);
    }
    errors.append(&mut builder.errors);
    SeatMap::new(builder.sections, builder.seats)
}

/// Numbers sections, rows and seats in the order of the body.
struct MapBuilder<'a> {
    currency: &'a str,
    sections: Vec<Section>,
    seats: Vec<Seat>,
    rows: i32,
    names: HashSet<&'a str>,
    labels: HashSet<&'a str>,
    errors: Vec<FieldError>,
}

impl<'a> MapBuilder<'a> {
    fn new(currency: &'a str) -> MapBuilder<'a> {
        MapBuilder {
            currency,
            sections: Vec::new(),
            seats: Vec::new(),
            rows: 0,
            names: HashSet::new(),
            labels: HashSet::new(),
            errors: Vec::new(),
        }
    }

    fn section(&mut self, no: i16, section: &'a SectionBody) {
        let pointer = format!("/sections/{no}");
        check_text(
            &format!("{pointer}/name"),
            &section.name,
            NAME_LENGTH_MAX,
            &mut self.errors,
        );
        if !self.names.insert(&section.name) {
            self.wrong(&pointer, "/name", "another section has this name");
        }
        let kind = match section.kind {
            KindBody::Seated => SectionKind::Seated,
            KindBody::GeneralAdmission => SectionKind::GeneralAdmission,
        };
        let (currency, errors) = (self.currency, &mut self.errors);
        let fee = section.fee.as_ref();
        let price = prices::check_price(&pointer, &section.price, fee, currency, errors);
        let categories = section.categories.as_deref();
        let categories = prices::check_categories(&pointer, kind, categories, currency, errors);
        let capacity = match kind {
            SectionKind::Seated => self.seated(no, &pointer, section, &categories),
            SectionKind::GeneralAdmission => self.general_admission(&pointer, section),
        };
        self.sections.push(Section {
            name: section.name.clone(),
            kind,
            price: price.total,
            fee: price.fees,
            categories,
            capacity,
        });
    }

    fn general_admission(&mut self, pointer: &str, section: &SectionBody) -> i32 {
        if section.rows.is_some() {
            self.wrong(pointer, "/rows", "a general-admission section has no rows");
        }
        let Some(capacity) = section.capacity else {
            self.wrong(
                pointer,
                "/capacity",
                "a general-admission section needs its capacity",
            );
            return 0;
        };
        number(
            &format!("{pointer}/capacity"),
            capacity,
            CAPACITY,
            &mut self.errors,
        )
    }

    fn seated(
        &mut self,
        no: i16,
        pointer: &str,
        section: &'a SectionBody,
        categories: &[Category],
    ) -> i32 {
        if section.capacity.is_some() {
            self.wrong(
                pointer,
                "/capacity",
                "the capacity of a seated section is its seats",
            );
        }
        let before = self.seats.len();
        for (row_no, row) in (0..).zip(section.rows.iter().flatten()) {
            let pointer = format!("{pointer}/rows/{row_no}");
            self.row(no, row_no, &pointer, row, categories);
        }
        let seats = self.seats.len() - before;
        if seats == 0 && self.errors.is_empty() {
            self.wrong(pointer, "/rows", "a seated section needs seats");
        }
        seats as i32
    }

    fn row(
        &mut self,
        section: i16,
        row_in_section: i32,
        pointer: &str,
        row: &'a RowBody,
        categories: &[Category],
    ) {
        let places = row.seats.len();
        if places > ROW_MAX {
            let detail = format!("a row can have at most {ROW_MAX} seats and aisles");
            self.wrong(pointer, "/seats", detail);
            return;
        }
        for (place, seat) in (0..).zip(&row.seats) {
            let Some(seat) = seat else { continue };
            let pointer = format!("{pointer}/seats/{place}");
            check_text(
                &format!("{pointer}/label"),
                &seat.label,
                LABEL_LENGTH_MAX,
                &mut self.errors,
            );
            if !self.labels.insert(&seat.label) {
                self.wrong(&pointer, "/label", "another seat has this label");
            }
            let category = seat.category.as_deref();
            let category = prices::find_category(&pointer, category, categories, &mut self.errors);
            let (x, y) = (
                seat.x.unwrap_or(f32::from(place)),
                seat.y.unwrap_or(row_in_section as f32),
            );
            if !x.is_finite() || !y.is_finite() {
                self.wrong(&pointer, "", "x and y must be numbers that can be drawn");
            }
            let from_middle = (2 * i32::from(place) - (places as i32 - 1)).abs();
            let rank = row_in_section * 2 * ROW_MAX as i32 + from_middle;
            self.seats.push(Seat {
                section,
                category,
                label: seat.label.clone(),
                row_no: self.rows,
                row_seat: place,
                rank: seat.rank.unwrap_or(rank),
                x,
                y,
            });
        }
        self.rows += 1;
    }

    fn wrong(&mut self, pointer: &str, place: &str, detail: impl Into<String>) {
        self.errors
            .push(FieldError::new(format!("{pointer}{place}"), detail));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use stampede_shared::domain::price::Price;

    use super::*;

    fn good() -> Value {
        json!({
            "name": "Demo", "currency": "EUR",
            "sections": [
                {"name": "A", "kind": "seated", "price": {"amount": 8500, "currency": "EUR"},
                 "fee": null,
                 "categories": [
                    {"name": "Front", "price": {"amount": 9500, "currency": "EUR"}},
                    {"name": "Side", "price": {"amount": 4000, "currency": "EUR"},
                     "fee": {"amount": 4000, "currency": "EUR"}},
                 ],
                 "rows": [{"seats": [{"label": "A-1", "category": "Side"}, null, {"label": "A-2"}, {"label": "A-3"}, {"label": "A-4"}]},
                          {"seats": [{"label": "B-1", "x": 1.5, "y": 2.5, "rank": 0}]}]},
                {"name": "FLOOR", "kind": "general_admission",
                 "price": {"amount": 5000, "currency": "EUR"}, "capacity": 600,
                 "categories": null}
            ]
        })
    }

    fn resolve(body: Value) -> Result<NewShow, Problem> {
        serde_json::from_value::<ShowBody>(body)
            .unwrap()
            .resolve(Uuid::nil())
    }

    #[test]
    fn rows_become_numbered_seats_and_an_aisle_skips_a_number() {
        let show = resolve(good()).unwrap();
        let map = &show.map;
        assert_eq!(show.buyer_limit, 8);
        assert_eq!(map.seats.len(), 5);
        let places: Vec<(i32, i16)> = map
            .seats
            .iter()
            .map(|it| (it.row_no, it.row_seat))
            .collect();
        assert_eq!(places, [(0, 0), (0, 2), (0, 3), (0, 4), (1, 0)]);
        assert_eq!(
            (map.sections[0].capacity, map.sections[1].capacity),
            (5, 600)
        );
        assert_eq!(map.find_seat("B-1"), Some(4));
    }

    #[test]
    fn a_seat_costs_what_its_category_costs() {
        let map = resolve(good()).unwrap().map;
        let price = |total, fees| Price { total, fees };
        assert_eq!(map.seat_price(0), price(4_000, 4_000));
        assert_eq!(map.seat_price(1), price(8_500, 0));
        assert_eq!(map.sections[0].categories[0].price, 9_500);
    }

    #[test]
    fn a_section_has_at_most_fifty_categories() {
        let mut body = good();
        let category =
            |no: usize| json!({"name": no.to_string(), "price": {"amount": 0, "currency": "EUR"}});
        body["sections"][0]["rows"][0]["seats"][0]["category"] = json!(null);
        for (count, is_good) in [(50, true), (51, false)] {
            body["sections"][0]["categories"] = (0..count).map(category).collect();
            match resolve(body.clone()) {
                Ok(_) => assert!(is_good),
                Err(problem) => {
                    assert!(!is_good);
                    assert_eq!(problem.errors()[0].pointer, "/sections/0/categories");
                }
            }
        }
    }

    #[test]
    fn the_middle_of_the_first_row_is_best() {
        let map = resolve(good()).unwrap().map;
        let ranks: Vec<i32> = map.seats.iter().map(|seat| seat.rank).collect();
        assert_eq!(ranks, [4, 0, 2, 4, 0]);
    }

    #[test]
    fn the_pointer_says_what_cannot_be() {
        let wrong = [
            ("/name", json!(""), "/name"),
            ("/name", json!("a\u{0}b"), "/name"),
            ("/name", json!("x".repeat(201)), "/name"),
            ("/currency", json!("eur"), "/currency"),
            ("/sections", json!([]), "/sections"),
            ("/sections/0/name", json!("FLOOR"), "/sections/1/name"),
            (
                "/sections/0/price/currency",
                json!("USD"),
                "/sections/0/price/currency",
            ),
            (
                "/sections/0/price/amount",
                json!(-1),
                "/sections/0/price/amount",
            ),
            ("/sections/0/rows", json!([]), "/sections/0/rows"),
            (
                "/sections/0/rows",
                json!([{"seats": [null]}]),
                "/sections/0/rows",
            ),
            (
                "/sections/0/rows/1/seats/0/label",
                json!("A-1"),
                "/sections/0/rows/1/seats/0/label",
            ),
            (
                "/sections/0/rows/1/seats/0/x",
                json!(1e39),
                "/sections/0/rows/1/seats/0",
            ),
            (
                "/sections/0/fee",
                json!({"amount": 8_501, "currency": "EUR"}),
                "/sections/0/fee/amount",
            ),
            (
                "/sections/0/fee",
                json!({"amount": -1, "currency": "EUR"}),
                "/sections/0/fee/amount",
            ),
            (
                "/sections/0/fee",
                json!({"amount": 1, "currency": "USD"}),
                "/sections/0/fee/currency",
            ),
            (
                "/sections/0/categories/0/name",
                json!(""),
                "/sections/0/categories/0/name",
            ),
            (
                "/sections/0/categories/0/name",
                json!("Side"),
                "/sections/0/categories/1/name",
            ),
            (
                "/sections/0/categories/0/price/amount",
                json!(100_000_001),
                "/sections/0/categories/0/price/amount",
            ),
            (
                "/sections/0/categories/0/price/currency",
                json!("USD"),
                "/sections/0/categories/0/price/currency",
            ),
            (
                "/sections/0/categories/1/fee/amount",
                json!(4_001),
                "/sections/0/categories/1/fee/amount",
            ),
            (
                "/sections/0/categories/1/fee/currency",
                json!("USD"),
                "/sections/0/categories/1/fee/currency",
            ),
            (
                "/sections/0/rows/0/seats/0/category",
                json!("Back"),
                "/sections/0/rows/0/seats/0/category",
            ),
            (
                "/sections/1/categories",
                json!([]),
                "/sections/1/categories",
            ),
            ("/sections/1/capacity", json!(0), "/sections/1/capacity"),
            ("/sections/1/capacity", json!(null), "/sections/1/capacity"),
        ];
        for (place, value, pointer) in wrong {
            let mut body = good();
            *body.pointer_mut(place).unwrap() = value.clone();
            let problem = resolve(body).err().unwrap();
            assert_eq!(problem.errors()[0].pointer, pointer, "{place} {value}");
        }
    }

    #[test]
    fn numbers_and_times_have_ranges() {
        let wrong = [
            ("buyer_limit", json!(0)),
            ("hold_seconds", json!(86_401)),
            ("queue_limit", json!(-5)),
            ("opens_at", json!("0001-01-01T00:00:00Z")),
            ("closes_at", json!("2019-01-01T00:00:00Z")),
            ("refundable_until", json!("1999-12-31T23:59:59Z")),
        ];
        for (field, value) in wrong {
            let mut body = good();
            body["opens_at"] = json!("2020-01-01T00:00:00Z");
            body[field] = value;
            let problem = resolve(body).err().unwrap();
            assert_eq!(problem.errors()[0].pointer, format!("/{field}"));
        }
    }
}
