//! What a whole-system test stands on.
//!
//! A test is a function that is given an [`Arena`]: an empty, migrated database of its own, in which
//! it starts `stampede` processes and talks to them. When it returns, what it left in the queue is
//! decided, the invariants of every show are checked, and the database is dropped. A test that breaks
//! them fails, whatever it asserted; a test that fails leaves its database for a look.

mod arena;
mod backlog;
mod client;
mod cluster;
mod gateway;
mod halls;
mod invariants;
mod money;
mod process;
mod receiver;

use std::{future::Future, time::Duration};

use tokio::time::Instant;

pub use self::{
    arena::{Arena, run, run_with_own_postgres},
    backlog::{decided_through, join_lines, open_floors},
    client::{Answer, Api, Buyer, send, try_send},
    gateway::{CALLBACK_SECRET, DECLINED_CARD, GOOD_CARD, Gateway, STEP_CARD, sign},
    halls::{floor, paid_show, seated, show},
    invariants::breaches,
    money::Money,
    process::{Process, binary},
    receiver::{Receiver, Reply, Told},
};

/// Signs the buyers' tokens of all tests.
pub const BUYER_SECRET: &str = "the secret of the tests, long enough";

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Waits until the condition holds; panics after `limit`. A condition is cheap and changes nothing.
pub async fn eventually<Check>(limit: Duration, mut holds: impl FnMut() -> Check)
where
    Check: Future<Output = bool>,
{
    let deadline = Instant::now() + limit;
    while !holds().await {
        assert!(
            Instant::now() < deadline,
            "the condition does not hold after {limit:?}"
        );
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
