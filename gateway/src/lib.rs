//! The simulated payment gateway: its own HTTP server with a ledger of its own.
