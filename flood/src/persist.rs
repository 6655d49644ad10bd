//! Trying again: what a client that must not lose its request does when the server is away.

use std::time::{Duration, Instant};

use rand::Rng;

use crate::{
    client::{Answer, Call, Pool},
    figures::Counters,
};

const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(3);

/// The series of tries of one call.
#[derive(Debug)]
pub struct Tries {
    began: Instant,
    failures: u32,
}

impl Default for Tries {
    fn default() -> Tries {
        Tries {
            began: Instant::now(),
            failures: 0,
        }
    }
}

/// Whether another try could end better.
pub fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504)
}

impl Tries {
    /// Since the first try.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Counts a failure and waits before the next try: longer each time, jittered, and as long as
    /// the server asks for.
    pub async fn back_off(&mut self, retry_after: Option<Duration>) {
        let backoff = BACKOFF_MAX.min(BACKOFF_FIRST * 2_u32.saturating_pow(self.failures.min(10)));
        self.failures += 1;
        let jitter = rand::rng().random_range(0.75..1.25);
        tokio::time::sleep(backoff.max(retry_after.unwrap_or_default()).mul_f64(jitter)).await;
    }

    /// Calls until there is an answer that stays, or no more patience. What is given up has the code
    /// of its last failure.
    pub async fn until_final(
        mut self,
        patience: Duration,
        counters: &Counters,
        pool: &Pool,
        call: &Call,
    ) -> Result<Answer, String> {
        loop {
            let (code, retry_after) = match pool.call(call).await {
                Ok(answer) if !is_passing(answer.status) => return Ok(answer),
                Ok(answer) => (
                    crate::calls::refusal_code(answer.status, &answer.body),
                    answer.retry_after(),
                ),
                Err(error) => (error.code().to_owned(), None),
            };
            counters.count_retry(&code);
            if self.elapsed() >= patience {
                return Err(code);
            }
            self.back_off(retry_after).await;
        }
    }
}
