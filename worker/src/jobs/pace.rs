//! How often a queue looks for jobs.
//!
//! The stock interval registers no waker in the poll in which it has elapsed. When an empty fetch ends in
//! that same poll, nothing wakes the queue before its next heartbeat: jobs wait for seconds.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use apalis_core::backend::ext::poll_strategy::{PollSnapshot, PollStrategy};
use tokio::time::{Interval, MissedTickBehavior, interval};

/// Wakes a queue at an interval, whatever it is doing.
#[derive(Debug)]
pub struct Pace(Interval);

impl Pace {
    pub fn every(pause: Duration) -> Pace {
        let mut interval = interval(pause);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Pace(interval)
    }
}

impl PollStrategy for Pace {
    fn poll_drive(&mut self, cx: &mut Context<'_>, _: &PollSnapshot) -> Poll<Option<()>> {
        let mut due = false;
        // On until it is pending: only then will it wake the queue.
        while self.0.poll_tick(cx).is_ready() {
            due = true;
        }
        if due {
            Poll::Ready(Some(()))
        } else {
            Poll::Pending
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::{Wake, Waker},
    };

    use super::*;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn a_poll_in_which_the_time_has_come_arms_the_next_one() {
        let pause = Duration::from_millis(5);
        let mut pace = Pace::every(pause);
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let mut cx = Context::from_waker(&waker);
        // The first time is now, rounded up to the next millisecond.
        tokio::time::sleep(pause).await;
        for _ in 0..5 {
            assert!(pace.poll_drive(&mut cx, &PollSnapshot::new()).is_ready());
            let before = wakes.0.load(Ordering::Relaxed);
            tokio::time::sleep(pause * 4).await;
            assert!(wakes.0.load(Ordering::Relaxed) > before, "nothing wakes it");
        }
    }
}
