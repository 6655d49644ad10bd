//! What is shown of a flood: on the terminal, as JSON, as a page.

pub mod chart;
pub mod html;
pub mod json;
mod numbers;
pub mod terminal;

use std::path::Path;

use anyhow::Context;

/// Writes a report to a file.
pub fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}
