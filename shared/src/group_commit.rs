//! Group commit: what arrives for a show while one transaction commits goes into the next, together.
//!
//! Each show has one task that owns its transactions, so nothing that writes runs in a future which
//! a leaving client can drop. There is no timer: a lone call is processed at once. Everything is
//! bounded: what waits for a show, what goes into one transaction, and how long an idle task lives.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

/// The most calls in one transaction. Above 500 rows a commit little is gained.
pub const BATCH_MAX: usize = 1000;

/// The most calls that wait for one show. At 20,000 a second this is under a second of waiting.
const WAITING_MAX: usize = 16_384;

/// A show's task ends after so long without a call.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// Too many calls wait already, or their task is gone; nothing was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many calls wait already")]
pub struct Overloaded;

type Process<Call, Answer> =
    dyn Fn(Uuid, Vec<Call>) -> BoxFuture<'static, Vec<Answer>> + Send + Sync;

struct Waiting<Call, Answer> {
    call: Call,
    answer: oneshot::Sender<Answer>,
}

type Sender<Call, Answer> = mpsc::Sender<Waiting<Call, Answer>>;

/// The tasks, one for each show that has calls.
pub struct GroupCommit<Call, Answer> {
    process: Arc<Process<Call, Answer>>,
    shows: Arc<Mutex<HashMap<Uuid, Sender<Call, Answer>>>>,
}

impl<Call, Answer> Clone for GroupCommit<Call, Answer> {
    fn clone(&self) -> Self {
        GroupCommit {
            process: Arc::clone(&self.process),
            shows: Arc::clone(&self.shows),
        }
    }
}

impl<Call, Answer> fmt::Debug for GroupCommit<Call, Answer> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("GroupCommit")
            .finish_non_exhaustive()
    }
}

impl<Call: Send + 'static, Answer: Send + 'static> GroupCommit<Call, Answer> {
    /// `process` does the calls of one show in one transaction and returns one answer a call, in
    /// their order.
    pub fn new<F, Fut>(process: F) -> GroupCommit<Call, Answer>
    where
        F: Fn(Uuid, Vec<Call>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Vec<Answer>> + Send + 'static,
    {
        GroupCommit {
            process: Arc::new(move |show_id, calls| Box::pin(process(show_id, calls))),
            shows: Arc::default(),
        }
    }

    /// Does one call together with those that are there at the same time. If the caller goes away
    /// meanwhile, the call is done all the same.
    pub async fn call(&self, show_id: Uuid, call: Call) -> Result<Answer, Overloaded> {
        let (answer, answered) = oneshot::channel();
        self.enqueue(show_id, Waiting { call, answer })?;
        // The task drops a sender only when its process panicked.
        answered.await.map_err(|_| Overloaded)
    }

    fn enqueue(&self, show_id: Uuid, mut waiting: Waiting<Call, Answer>) -> Result<(), Overloaded> {
        let mut shows = self.shows.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = shows.get(&show_id) {
            match sender.try_send(waiting) {
                Ok(()) => return Ok(()),
                Err(mpsc::error::TrySendError::Full(_)) => return Err(Overloaded),
                // The task was idle and has ended.
                Err(mpsc::error::TrySendError::Closed(back)) => waiting = back,
            }
        }
        shows.retain(|_, sender| !sender.is_closed());
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let sent = sender.try_send(waiting);
        shows.insert(show_id, sender);
        tokio::spawn(run(show_id, receiver, Arc::clone(&self.process)));
        sent.map_err(|_| Overloaded)
    }
}

async fn run<Call: Send + 'static, Answer: Send + 'static>(
    show_id: Uuid,
    mut receiver: mpsc::Receiver<Waiting<Call, Answer>>,
    process: Arc<Process<Call, Answer>>,
) {
    let mut batch = Vec::new();
    loop {
        let received = receiver.recv_many(&mut batch, BATCH_MAX);
        match tokio::time::timeout(IDLE_MAX, received).await {
            Ok(0) => return,
            Ok(_) => {
                let (calls, senders): (Vec<Call>, Vec<oneshot::Sender<Answer>>) = batch
                    .drain(..)
                    .map(|waiting| (waiting.call, waiting.answer))
                    .unzip();
                for (sender, answer) in senders.into_iter().zip(process(show_id, calls).await) {
                    // The caller may have gone; what it asked for is done.
                    let _ = sender.send(answer);
                }
            }
            // No new call can come in; those that just did are still answered.
            Err(_) => receiver.close(),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn what_arrives_during_a_batch_goes_into_the_next_together() {
        let gate = Arc::new(Semaphore::new(0));
        let sizes: Arc<Mutex<Vec<usize>>> = Arc::default();
        let group = {
            let (gate, sizes) = (Arc::clone(&gate), Arc::clone(&sizes));
            GroupCommit::new(move |_, calls: Vec<u32>| {
                let (gate, sizes) = (Arc::clone(&gate), Arc::clone(&sizes));
                async move {
                    gate.acquire().await.unwrap().forget();
                    sizes.lock().unwrap().push(calls.len());
                    calls.into_iter().map(|call| call * 2).collect()
                }
            })
        };
        let show_id = Uuid::nil();
        let spawn = |call| {
            let group = group.clone();
            tokio::spawn(async move { group.call(show_id, call).await })
        };
        let first = spawn(1);
        while group.shows.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        tokio::task::yield_now().await;
        let rest: Vec<_> = (2..=10).map(spawn).collect();
        while group.shows.lock().unwrap()[&show_id].capacity() != WAITING_MAX - 9 {
            tokio::task::yield_now().await;
        }
        gate.add_permits(2);
        assert_eq!(first.await.unwrap(), Ok(2));
        for (call, answer) in (2..=10).zip(rest) {
            assert_eq!(answer.await.unwrap(), Ok(call * 2));
        }
        assert_eq!(*sizes.lock().unwrap(), [1, 9]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_task_ends_and_the_next_call_starts_another() {
        let group = GroupCommit::new(|_, calls: Vec<u32>| async move { calls });
        assert_eq!(group.call(Uuid::nil(), 1).await, Ok(1));
        tokio::time::sleep(IDLE_MAX * 2).await;
        assert!(group.shows.lock().unwrap()[&Uuid::nil()].is_closed());
        assert_eq!(group.call(Uuid::nil(), 2).await, Ok(2));
    }
}
