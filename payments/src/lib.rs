//! From hold to booking: the gateways, and how a payment is driven to its end.
//!
//! `gateway` says what a gateway does; `stripe` and `simulated` are the two that do it; `signature`
//! checks what they tell us.

pub mod gateway;
mod http;
mod signature;
pub mod stripe;
