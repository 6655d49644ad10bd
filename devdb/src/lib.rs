//! The embedded Postgres: finds or fetches it, drops root, starts and stops it.
