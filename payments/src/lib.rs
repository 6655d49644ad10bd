//! From hold to booking: the gateways, and how a payment is driven to its end.
//!
//! `gateway` says what a gateway does; `stripe` and `simulated` are the two that do it; `signature`
//! checks what they tell us. `till` is where holds, payments and charges come together; the API and
//! the workers both use it.

mod crash;
pub mod gateway;
mod http;
pub mod reconcile;
mod settings;
mod signature;
pub mod simulated;
pub mod stripe;
pub mod till;

pub use settings::{GatewayKind, Settings};
pub use till::Till;
