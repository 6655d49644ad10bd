//! The show's public watermark, watched by one for all: how far the line is decided.
//!
//! A buyer who has no connection to long-poll with waits here until the line has passed their
//! position, as a page behind a CDN would, instead of asking over and over.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use crate::{calls::Calls, calls::QueueAnswer, client::Pool};

/// How often the watermark is read.
const PACE: Duration = Duration::from_millis(100);

/// How long one read may take: the line must go on being watched while a server is away.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// What is known of the line.
#[derive(Debug, Default)]
pub struct Line {
    head: AtomicI64,
    tail: AtomicI64,
    moved: Mutex<Option<Instant>>,
    waiting: Mutex<BTreeMap<i64, oneshot::Sender<()>>>,
}

impl Line {
    /// The last position that is decided.
    pub fn head(&self) -> i64 {
        self.head.load(Ordering::Acquire)
    }

    /// How many requests wait.
    pub fn waiting(&self) -> i64 {
        (self.tail.load(Ordering::Acquire) - self.head()).max(0)
    }

    /// How long nothing was decided, as far as is known; at most the time since `since`.
    pub fn still(&self, since: Instant) -> Duration {
        let moved = *self.moved.lock().unwrap_or_else(PoisonError::into_inner);
        moved.map_or(since, |moved| moved.max(since)).elapsed()
    }

    /// Returns when the line has passed the position, or after `at_most`.
    pub async fn passes(&self, position: i64, at_most: Duration) {
        let passed = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if self.head() >= position {
                return;
            }
            let (passes, passed) = oneshot::channel();
            waiting.insert(position, passes);
            passed
        };
        // Either of the two is a reason to ask the server.
        let _ = tokio::time::timeout(at_most, passed).await;
    }

    /// Takes note of a watermark. One that is older than what is known changes nothing.
    pub fn advance(&self, queue: QueueAnswer) {
        self.tail.fetch_max(queue.tail, Ordering::AcqRel);
        let passed = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if self.head.fetch_max(queue.head, Ordering::AcqRel) >= queue.head {
                return;
            }
            let left = waiting.split_off(&(queue.head + 1));
            std::mem::replace(&mut *waiting, left)
        };
        *self.moved.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        for passes in passed.into_values() {
            // Who timed out meanwhile asks anyway.
            let _ = passes.send(());
        }
    }

    /// Reads the watermark until it is dropped.
    pub async fn watch(&self, calls: &Calls, pool: &Pool) {
        let mut call = calls.queue();
        call.timeout = READ_TIMEOUT;
        loop {
            // Without an answer the line is not known to move; the buyers ask at their own pace.
            if let Ok(answer) = pool.call(&call).await
                && let Ok(queue) = serde_json::from_slice(&answer.body)
            {
                self.advance(queue);
            }
            tokio::time::sleep(PACE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn a_buyer_waits_until_the_line_has_passed() {
        let line = Line::default();
        let mut third = std::pin::pin!(line.passes(3, LONG));
        assert!(futures::poll!(&mut third).is_pending());
        line.advance(QueueAnswer { head: 2, tail: 9 });
        assert!(futures::poll!(&mut third).is_pending());
        line.advance(QueueAnswer { head: 3, tail: 9 });
        third.await;
        line.passes(2, LONG).await;
        assert_eq!((line.head(), line.waiting()), (3, 6));
    }

    #[tokio::test]
    async fn a_buyer_does_not_wait_longer_than_they_want() {
        let line = Line::default();
        let began = Instant::now();
        line.passes(1, Duration::from_millis(20)).await;
        assert!(began.elapsed() >= Duration::from_millis(20));
    }

    #[test]
    fn an_old_watermark_changes_nothing() {
        let line = Line::default();
        line.advance(QueueAnswer { head: 5, tail: 9 });
        line.advance(QueueAnswer { head: 4, tail: 8 });
        assert_eq!((line.head(), line.waiting()), (5, 4));
    }
}
