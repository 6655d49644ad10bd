//! What an error of the database means for the caller.

use sqlx::Error;

/// Whether the same transaction may succeed when it is tried again: the server went away, or another
/// transaction was in the way. An error *during* a commit is one of these and leaves the outcome
/// unknown: look before you apply again.
pub fn is_transient(error: &Error) -> bool {
    match error {
        Error::Io(_)
        | Error::Tls(_)
        | Error::Protocol(_)
        | Error::PoolTimedOut
        | Error::PoolClosed
        | Error::WorkerCrashed
        | Error::BeginFailed => true,
        Error::Database(error) => error.code().is_some_and(|code| is_transient_code(&code)),
        _ => false,
    }
}

/// Serialization failure, deadlock, lock not available, statement timeout, shutdown, connection
/// exceptions, too many connections, read-only after a failover, idle-in-transaction timeout.
fn is_transient_code(code: &str) -> bool {
    matches!(
        code,
        "40001" | "40P01" | "55P03" | "57014" | "53300" | "25006" | "25P03"
    ) || code.starts_with("08")
        || code.starts_with("57P0")
}

/// The constraint that an insert or update ran into.
pub fn violated_constraint(error: &Error) -> Option<&str> {
    match error {
        Error::Database(error) => error.constraint(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_connection_is_transient_and_a_violated_constraint_is_not() {
        assert!(is_transient(&Error::Io(std::io::Error::other("reset"))));
        assert!(is_transient_code("57P01"));
        assert!(is_transient_code("08006"));
        assert!(!is_transient_code("23505"));
        assert!(!is_transient_code("22P02"));
    }
}
