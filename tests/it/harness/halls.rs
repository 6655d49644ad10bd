//! Shows as an operator sends them.

use serde_json::{Value, json};

/// A show of these sections: at most 8 places a buyer, ten minutes a hold, nothing to pay.
pub fn show(sections: impl Into<Vec<Value>>) -> Value {
    let mut show = paid_show(sections);
    show["payment_policy"] = "complimentary".into();
    show
}

/// The same, paid at the gateway.
pub fn paid_show(sections: impl Into<Vec<Value>>) -> Value {
    json!({
        "name": "Test",
        "currency": "EUR",
        "buyer_limit": 8,
        "hold_seconds": 600,
        "queue_limit": 1_000_000,
        "sections": sections.into(),
    })
}

/// A section with seats labelled `A-1-1` (section, row, seat), at 50.00 each.
pub fn seated(name: &str, rows: usize, seats_in_row: usize) -> Value {
    let row = |row: usize| {
        let seat =
            |seat: usize| json!({"label": format!("{name}-{row}-{seat}"), "x": seat, "y": row});
        json!({ "seats": (1..=seats_in_row).map(seat).collect::<Vec<_>>() })
    };
    json!({
        "name": name,
        "kind": "seated",
        "price": {"amount": 5_000, "currency": "EUR"},
        "rows": (1..=rows).map(row).collect::<Vec<_>>(),
    })
}

/// A general-admission section, at 30.00 a place.
pub fn floor(name: &str, capacity: u32) -> Value {
    json!({
        "name": name,
        "kind": "general_admission",
        "price": {"amount": 3_000, "currency": "EUR"},
        "capacity": capacity,
    })
}
