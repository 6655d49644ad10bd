//! Places where a test can end the process, as a crash would.

/// Ends this process here, without a word, when the fail point of that name says so. Does nothing in a
/// build without the feature `failpoints`.
pub(crate) fn point(name: &'static str) {
    fail::fail_point!(name, |_| std::process::abort());
    let _ = name;
}
