//! Whether this process may open as many connections as the flood needs.

use anyhow::bail;

use crate::plan::Plan;

/// For everything that is not a connection of the flood.
pub const RESERVE: usize = 64;

/// Fails with what to do when the limit is too low. Where the limit cannot be read, connecting will
/// tell.
pub fn check(plan: &Plan) -> anyhow::Result<()> {
    let needed = (plan.all_connections() + RESERVE) as u64;
    let limit = limit();
    if limit < needed {
        bail!(
            "this flood needs {needed} open files and may have {limit}: raise the limit (`ulimit -n \
            {needed}`), or lower --pollers or --connections"
        );
    }
    Ok(())
}

/// How many files this process may have open; as good as endless where it cannot be read.
pub fn limit() -> u64 {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    parse_soft_limit(&limits).unwrap_or(u64::MAX)
}

fn parse_soft_limit(limits: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_the_first_number() {
        let limits = "Limit            Soft Limit  Hard Limit  Units\n\
            Max processes    63000       63000       processes\n\
            Max open files   1024        1048576     files\n";
        assert_eq!(parse_soft_limit(limits), Some(1024));
        assert_eq!(
            parse_soft_limit("Max open files unlimited unlimited files"),
            None
        );
    }
}
