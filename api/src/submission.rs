//! The body of a submission, and how its words become the numbers of the show's map.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use stampede_shared::{
    domain::{
        Amount, SeatNo, SectionNo,
        seat_map::{SeatMap, SectionKind},
        wish::{Adjacent, WISHES_MAX, Wish},
    },
    store::shows::Show,
};
use utoipa::ToSchema;

use crate::error::{FieldError, Problem};

/// An amount of money.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Money {
    /// In minor units, such as cents.
    #[schema(example = 8500)]
    pub amount: Amount,
    /// ISO 4217.
    #[schema(example = "EUR")]
    pub currency: String,
}

/// What a buyer asks for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubmissionBody {
    /// 1 to 10 in order of preference: the first that can be met wins.
    wishes: Vec<WishBody>,
    /// The most that all seats together may cost, fees included.
    max_total: Option<Money>,
    /// Waiting for returned seats is not offered yet: absent or false.
    standby: Option<bool>,
}

/// One way to satisfy the buyer.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct WishBody {
    kind: WishKind,
    /// Of `seats`: the labels of the seats, all or nothing.
    #[schema(example = json!(["A-12", "A-13"]))]
    seats: Option<Vec<String>>,
    /// Of `best_available` and `general_admission`: the name of the section.
    section: Option<String>,
    /// Of `best_available` and `general_admission`: how many, up to the show's limit per buyer.
    quantity: Option<i64>,
    /// Of `best_available`: whether the seats must be neighbours; `preferred` when absent.
    #[schema(value_type = Option<String>, example = "required")]
    adjacent: Option<Adjacent>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum WishKind {
    Seats,
    BestAvailable,
    GeneralAdmission,
}

/// A submission whose every number exists.
#[derive(Debug, PartialEq)]
pub struct Resolved {
    pub wishes: Vec<Wish>,
    pub max_total: Option<Amount>,
}

impl Resolved {
    /// SHA-256 of what is asked for, not of how it was spelled: a retry may order its JSON differently.
    pub fn hash(&self) -> [u8; 32] {
        let meaning = serde_json::to_vec(&(&self.wishes, self.max_total));
        Sha256::digest(meaning.expect("wishes are plain data")).into()
    }
}

impl SubmissionBody {
    /// Finds the seats and sections on the map; tells of everything that is wrong, not only the first.
    pub fn resolve(&self, show: &Show, map: &SeatMap) -> Result<Resolved, Problem> {
        let mut errors = Vec::new();
        if !(1..=WISHES_MAX).contains(&self.wishes.len()) {
            let detail = format!("there must be 1 to {WISHES_MAX} wishes");
            errors.push(FieldError::new("/wishes", detail));
        }
        if self.standby == Some(true) {
            let detail = "standby is not offered; leave it out or say false";
            errors.push(FieldError::new("/standby", detail));
        }
        let max_total = self.resolve_max_total(show, &mut errors);
        let mut wishes = Vec::with_capacity(self.wishes.len());
        for (no, wish) in self.wishes.iter().take(WISHES_MAX).enumerate() {
            let mut resolver = Resolver {
                show,
                map,
                pointer: format!("/wishes/{no}"),
                errors: &mut errors,
            };
            wishes.extend(resolver.wish(wish));
        }
        if errors.is_empty() {
            return Ok(Resolved { wishes, max_total });
        }
        Err(Problem::invalid_body(errors))
    }

    fn resolve_max_total(&self, show: &Show, errors: &mut Vec<FieldError>) -> Option<Amount> {
        let max_total = self.max_total.as_ref()?;
        if max_total.currency != show.currency {
            let detail = format!("the show sells in {}", show.currency);
            errors.push(FieldError::new("/max_total/currency", detail));
        }
        if max_total.amount < 0 {
            errors.push(FieldError::new(
                "/max_total/amount",
                "an amount is 0 or more",
            ));
        }
        Some(max_total.amount)
    }
}

/// Resolves one wish and collects what is wrong with it.
struct Resolver<'a> {
    show: &'a Show,
    map: &'a SeatMap,
    pointer: String,
    errors: &'a mut Vec<FieldError>,
}

impl Resolver<'_> {
    fn wish(&mut self, wish: &WishBody) -> Option<Wish> {
        if wish.kind != WishKind::Seats && wish.seats.is_some() {
            self.wrong("/seats", "only a wish of kind `seats` names seats");
        }
        if wish.kind == WishKind::Seats && wish.section.is_some() {
            self.wrong(
                "/section",
                "a wish of kind `seats` has no section: labels are unique",
            );
        }
        if wish.kind == WishKind::Seats && wish.quantity.is_some() {
            self.wrong(
                "/quantity",
                "a wish of kind `seats` has no quantity: it names its seats",
            );
        }
        if wish.kind != WishKind::BestAvailable && wish.adjacent.is_some() {
            self.wrong(
                "/adjacent",
                "only a wish of kind `best_available` has `adjacent`",
            );
        }
        match wish.kind {
            WishKind::Seats => self.seats(wish.seats.as_deref()).map(Wish::Seats),
            WishKind::BestAvailable => {
                let section = self.section(wish.section.as_deref(), SectionKind::Seated);
                let quantity = self.quantity(wish.quantity);
                let adjacent = wish.adjacent.unwrap_or(Adjacent::Preferred);
                Some(Wish::BestAvailable {
                    section: section?,
                    quantity: quantity?,
                    adjacent,
                })
            }
            WishKind::GeneralAdmission => {
                let section = self.section(wish.section.as_deref(), SectionKind::GeneralAdmission);
                let quantity = self.quantity(wish.quantity);
                Some(Wish::GeneralAdmission {
                    section: section?,
                    quantity: quantity?,
                })
            }
        }
    }

    fn seats(&mut self, labels: Option<&[String]>) -> Option<Vec<SeatNo>> {
        let Some(labels) = labels else {
            return self.refuse("/seats", "a wish of kind `seats` names its seats");
        };
        if labels.is_empty() {
            return self.refuse("/seats", "name at least one seat");
        }
        if labels.len() > self.show.buyer_limit as usize {
            let detail = format!("a buyer can have at most {} seats", self.show.buyer_limit);
            return self.refuse("/seats", detail);
        }
        let mut seats = Vec::with_capacity(labels.len());
        let mut seen = HashSet::with_capacity(labels.len());
        for (no, label) in labels.iter().enumerate() {
            match self.map.find_seat(label) {
                None => self.wrong(&format!("/seats/{no}"), "the show has no such seat"),
                Some(seat) if !seen.insert(seat) => {
                    self.wrong(&format!("/seats/{no}"), "the seat is named twice");
                }
                Some(seat) => seats.push(seat),
            }
        }
        (seats.len() == labels.len()).then_some(seats)
    }

    fn section(&mut self, name: Option<&str>, kind: SectionKind) -> Option<SectionNo> {
        let Some(name) = name else {
            return self.refuse("/section", "the wish must name its section");
        };
        let Some(section) = self.map.find_section(name) else {
            return self.refuse("/section", "the show has no such section");
        };
        match (kind, self.map.section(section).kind) {
            (SectionKind::Seated, SectionKind::GeneralAdmission) => self.refuse(
                "/section",
                "the section has no seats; wish for `general_admission`",
            ),
            (SectionKind::GeneralAdmission, SectionKind::Seated) => self.refuse(
                "/section",
                "the section has seats; wish for `best_available` or `seats`",
            ),
            _ => Some(section),
        }
    }

    fn quantity(&mut self, quantity: Option<i64>) -> Option<i32> {
        let Some(quantity) = quantity else {
            return self.refuse("/quantity", "the wish must say how many");
        };
        let limit = self.show.buyer_limit;
        match i32::try_from(quantity) {
            Ok(quantity) if (1..=limit).contains(&quantity) => Some(quantity),
            _ => self.refuse("/quantity", format!("the quantity must be 1 to {limit}")),
        }
    }

    fn refuse<T>(&mut self, place: &str, detail: impl Into<String>) -> Option<T> {
        self.wrong(place, detail);
        None
    }

    fn wrong(&mut self, place: &str, detail: impl Into<String>) {
        let pointer = format!("{}{place}", self.pointer);
        self.errors.push(FieldError::new(pointer, detail));
    }
}

#[cfg(test)]
mod tests {
    use stampede_shared::domain::seat_map::{Seat, Section};
    use uuid::Uuid;

    use super::*;

    fn show() -> Show {
        Show {
            show_id: Uuid::nil(),
            name: "Show".into(),
            currency: "EUR".into(),
            buyer_limit: 4,
            hold_seconds: 600,
            payment_policy: stampede_shared::domain::payment::PaymentPolicy::Required,
            refundable_until: None,
            opens_at: None,
            closes_at: None,
            sections: sections(),
        }
    }

    fn sections() -> Vec<Section> {
        let section = |name: &str, kind, capacity| Section {
            name: name.into(),
            kind,
            price: 8_500,
            fee: 0,
            categories: vec![],
            capacity,
        };
        vec![
            section("A", SectionKind::Seated, 6),
            section("FLOOR", SectionKind::GeneralAdmission, 100),
        ]
    }

    fn map() -> SeatMap {
        let seat = |no: i16| Seat {
            section: 0,
            category: None,
            label: format!("A-{no}"),
            row_no: 0,
            row_seat: no,
            rank: 0,
            x: 0.0,
            y: 0.0,
        };
        SeatMap::new(sections(), (0..6).map(seat).collect())
    }

    fn resolve(body: &str) -> Result<Resolved, Problem> {
        let body: SubmissionBody = serde_json::from_str(body).unwrap();
        body.resolve(&show(), &map())
    }

    #[test]
    fn the_three_kinds_become_numbers() {
        let resolved = resolve(
            r#"{"wishes": [{"kind":"seats","seats":["A-2","A-1"]},
                {"kind":"best_available","section":"A","quantity":3,"adjacent":"required"},
                {"kind":"best_available","section":"A","quantity":1},
                {"kind":"general_admission","section":"FLOOR","quantity":4}],
                "max_total":{"amount":40000,"currency":"EUR"}, "standby": false}"#,
        )
        .unwrap();
        let best = |quantity, adjacent| Wish::BestAvailable {
            section: 0,
            quantity,
            adjacent,
        };
        let expected = [
            Wish::Seats(vec![2, 1]),
            best(3, Adjacent::Required),
            best(1, Adjacent::Preferred),
            Wish::GeneralAdmission {
                section: 1,
                quantity: 4,
            },
        ];
        assert_eq!(resolved.wishes, expected);
        assert_eq!(resolved.max_total, Some(40_000));
    }

    #[test]
    fn the_pointer_says_what_cannot_be() {
        for (wish, pointer) in [
            (r#"{"kind":"seats"}"#, "/wishes/0/seats"),
            (r#"{"kind":"seats","seats":[]}"#, "/wishes/0/seats"),
            (
                r#"{"kind":"seats","seats":["A-0","A-0"]}"#,
                "/wishes/0/seats/1",
            ),
            (r#"{"kind":"seats","seats":["B-1"]}"#, "/wishes/0/seats/0"),
            (
                r#"{"kind":"seats","seats":["A-\u0000"]}"#,
                "/wishes/0/seats/0",
            ),
            (
                r#"{"kind":"seats","seats":["A-0","A-1","A-2","A-3","A-4"]}"#,
                "/wishes/0/seats",
            ),
            (
                r#"{"kind":"seats","seats":["A-0"],"section":"A"}"#,
                "/wishes/0/section",
            ),
            (
                r#"{"kind":"seats","seats":["A-0"],"quantity":1}"#,
                "/wishes/0/quantity",
            ),
            (
                r#"{"kind":"best_available","section":"A","quantity":0}"#,
                "/wishes/0/quantity",
            ),
            (
                r#"{"kind":"best_available","section":"A","quantity":5}"#,
                "/wishes/0/quantity",
            ),
            (
                r#"{"kind":"best_available","section":"A","quantity":-1}"#,
                "/wishes/0/quantity",
            ),
            (
                r#"{"kind":"best_available","section":"A","quantity":99999999999}"#,
                "/wishes/0/quantity",
            ),
            (
                r#"{"kind":"best_available","section":"A"}"#,
                "/wishes/0/quantity",
            ),
            (
                r#"{"kind":"best_available","quantity":1}"#,
                "/wishes/0/section",
            ),
            (
                r#"{"kind":"best_available","section":"B","quantity":1}"#,
                "/wishes/0/section",
            ),
            (
                r#"{"kind":"best_available","section":"FLOOR","quantity":1}"#,
                "/wishes/0/section",
            ),
            (
                r#"{"kind":"general_admission","section":"A","quantity":1}"#,
                "/wishes/0/section",
            ),
            (
                r#"{"kind":"general_admission","section":"FLOOR","quantity":1,"adjacent":"required"}"#,
                "/wishes/0/adjacent",
            ),
        ] {
            let problem = resolve(&format!(r#"{{"wishes":[{wish}]}}"#)).unwrap_err();
            assert_eq!(problem.errors()[0].pointer, pointer, "{wish}");
        }
    }

    #[test]
    fn the_rest_of_the_body_is_checked_too() {
        let wish = r#"{"kind":"seats","seats":["A-0"]}"#;
        let eleven = [wish; 11].join(",");
        for (body, pointer) in [
            (r#"{"wishes":[]}"#.to_owned(), "/wishes"),
            (format!(r#"{{"wishes":[{eleven}]}}"#), "/wishes"),
            (
                format!(r#"{{"wishes":[{wish}],"standby":true}}"#),
                "/standby",
            ),
            (
                format!(r#"{{"wishes":[{wish}],"max_total":{{"amount":1,"currency":"USD"}}}}"#),
                "/max_total/currency",
            ),
            (
                format!(r#"{{"wishes":[{wish}],"max_total":{{"amount":-1,"currency":"EUR"}}}}"#),
                "/max_total/amount",
            ),
        ] {
            assert_eq!(
                resolve(&body).unwrap_err().errors()[0].pointer,
                pointer,
                "{body}"
            );
        }
    }

    #[test]
    fn the_hash_is_of_the_meaning() {
        let spelled = |body| resolve(body).unwrap().hash();
        let one = spelled(r#"{"wishes":[{"kind":"seats","seats":["A-1"]}]}"#);
        let same =
            spelled(r#"{ "standby": false, "wishes": [{"seats":["A-1"], "kind":"seats"}] }"#);
        let other = spelled(r#"{"wishes":[{"kind":"seats","seats":["A-2"]}]}"#);
        assert_eq!(one, same);
        assert_ne!(one, other);
    }
}
