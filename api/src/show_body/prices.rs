//! The prices in the body that creates a show: of sections and of their categories.

use std::{collections::HashSet, ops::RangeInclusive};

use serde::Deserialize;
use stampede_shared::domain::{
    Amount, CategoryNo,
    price::Price,
    seat_map::{Category, SectionKind},
};
use utoipa::ToSchema;

use super::{NAME_LENGTH_MAX, check_text};
use crate::{error::FieldError, submission::Money};

const PRICE: RangeInclusive<Amount> = 0..=100_000_000;
const CATEGORIES_MAX: usize = 50;

/// A price that some seats of a section have.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CategoryBody {
    /// Unique in the section; seats name it.
    #[schema(example = "Front rows")]
    name: String,
    /// All-in, for each seat.
    price: Money,
    /// The part of the price that is fees; none when absent.
    fee: Option<Money>,
}

/// The all-in price at `pointer`, and its fee beside it.
pub fn check_price(
    pointer: &str,
    price: &Money,
    fee: Option<&Money>,
    currency: &str,
    errors: &mut Vec<FieldError>,
) -> Price {
    check_money(&format!("{pointer}/price"), price, PRICE, currency, errors);
    if let Some(fee) = fee {
        // A price that cannot be is told of once.
        let within = 0..=price.amount.clamp(*PRICE.start(), *PRICE.end());
        check_money(&format!("{pointer}/fee"), fee, within, currency, errors);
    }
    Price {
        total: price.amount,
        fees: fee.map_or(0, |fee| fee.amount),
    }
}

fn check_money(
    pointer: &str,
    money: &Money,
    range: RangeInclusive<Amount>,
    currency: &str,
    errors: &mut Vec<FieldError>,
) {
    if money.currency != currency {
        let detail = "it must be the currency of the show";
        errors.push(FieldError::new(format!("{pointer}/currency"), detail));
    }
    if !range.contains(&money.amount) {
        let detail = format!("it must be {} to {}", range.start(), range.end());
        errors.push(FieldError::new(format!("{pointer}/amount"), detail));
    }
}

/// The categories of the section at `pointer`.
pub fn check_categories(
    pointer: &str,
    kind: SectionKind,
    categories: Option<&[CategoryBody]>,
    currency: &str,
    errors: &mut Vec<FieldError>,
) -> Vec<Category> {
    let pointer = format!("{pointer}/categories");
    let categories = match (kind, categories) {
        (_, None) => return Vec::new(),
        (SectionKind::GeneralAdmission, Some(_)) => {
            let detail = "a general-admission section has one price";
            errors.push(FieldError::new(pointer, detail));
            return Vec::new();
        }
        (SectionKind::Seated, Some(categories)) => categories,
    };
    if categories.len() > CATEGORIES_MAX {
        let detail = format!("a section can have at most {CATEGORIES_MAX} categories");
        errors.push(FieldError::new(pointer, detail));
        return Vec::new();
    }
    let mut names = HashSet::new();
    let check = |(no, category): (usize, &CategoryBody)| {
        let pointer = format!("{pointer}/{no}");
        let name = format!("{pointer}/name");
        check_text(&name, &category.name, NAME_LENGTH_MAX, errors);
        if !names.insert(category.name.clone()) {
            let detail = "another category of the section has this name";
            errors.push(FieldError::new(name, detail));
        }
        let fee = category.fee.as_ref();
        let price = check_price(&pointer, &category.price, fee, currency, errors);
        Category {
            name: category.name.clone(),
            price: price.total,
            fee: price.fees,
        }
    };
    categories.iter().enumerate().map(check).collect()
}

/// The category that the seat at `pointer` names.
pub fn find_category(
    pointer: &str,
    name: Option<&str>,
    categories: &[Category],
    errors: &mut Vec<FieldError>,
) -> Option<CategoryNo> {
    let name = name?;
    let found = (0..)
        .zip(categories)
        .find(|(_, category)| category.name == name);
    if found.is_none() {
        let detail = "the section has no such category";
        errors.push(FieldError::new(format!("{pointer}/category"), detail));
    }
    found.map(|(no, _)| no)
}
