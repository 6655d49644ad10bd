//! The HTTP server: intake, answers, operators.
