//! Who waits for which request. No SQL, no I/O.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use stampede_shared::{domain::Position, store::request_status::RequestStatus};
use tokio::sync::oneshot;
use uuid::Uuid;

/// All who wait in this process.
#[derive(Debug, Default)]
pub struct Waiters {
    shows: Mutex<HashMap<Uuid, Show>>,
    count: AtomicUsize,
}

#[derive(Debug, Default)]
struct Show {
    /// Those in the line, by position: a turn answers all up to one.
    line: BTreeMap<Position, Vec<Bell>>,
    /// Those that were decided and wait for what comes after.
    decided: BTreeMap<Position, Vec<Bell>>,
    /// The positions that are to be told.
    rung: HashSet<Position>,
}

#[derive(Debug)]
struct Bell {
    id: usize,
    sender: oneshot::Sender<RequestStatus>,
}

/// One who waits. Leaves when dropped.
#[derive(Debug)]
pub struct Waiter {
    waiters: Arc<Waiters>,
    show_id: Uuid,
    position: Position,
    id: usize,
    receiver: oneshot::Receiver<RequestStatus>,
}

impl Waiter {
    /// What the request has become; `None` when it should look for itself.
    pub async fn told(&mut self) -> Option<RequestStatus> {
        (&mut self.receiver).await.ok()
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.waiters.leave(self.show_id, self.position, self.id);
    }
}

impl Waiters {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Waits for the request at `position`; `decided` says whether it has its outcome already.
    pub fn register(self: &Arc<Self>, show_id: Uuid, position: Position, decided: bool) -> Waiter {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        let mut shows = self.lock();
        let show = shows.entry(show_id).or_default();
        let waiting = if decided {
            &mut show.decided
        } else {
            &mut show.line
        };
        waiting
            .entry(position)
            .or_default()
            .push(Bell { id, sender });
        self.count.fetch_add(1, Ordering::Relaxed);
        Waiter {
            waiters: Arc::clone(self),
            show_id,
            position,
            id,
            receiver,
        }
    }

    /// The shows for which anybody waits.
    pub fn shows(&self) -> Vec<Uuid> {
        self.lock().keys().copied().collect()
    }

    /// Rings for everyone in the line up to `through`.
    pub fn ring_line(&self, show_id: Uuid, through: Position) {
        if let Some(show) = self.lock().get_mut(&show_id) {
            show.rung
                .extend(show.line.range(..=through).map(|(position, _)| *position));
        }
    }

    /// Rings for those who wait for one of these positions.
    pub fn ring(&self, show_id: Uuid, positions: &[Position]) {
        if let Some(show) = self.lock().get_mut(&show_id) {
            let waited_for = positions.iter().filter(|position| {
                show.line.contains_key(position) || show.decided.contains_key(position)
            });
            show.rung.extend(waited_for);
        }
    }

    /// Rings for everyone who waits for what comes after the decision.
    pub fn ring_all(&self, show_id: Uuid) {
        if let Some(show) = self.lock().get_mut(&show_id) {
            show.rung.extend(show.decided.keys());
        }
    }

    /// Takes the positions that are to be told, in order.
    pub fn rung(&self, show_id: Uuid) -> Vec<Position> {
        let mut shows = self.lock();
        let Some(show) = shows.get_mut(&show_id) else {
            return Vec::new();
        };
        let mut rung: Vec<Position> = show.rung.drain().collect();
        rung.sort_unstable();
        rung
    }

    /// Tells those who wait for these requests.
    pub fn tell(&self, show_id: Uuid, found: Vec<RequestStatus>) {
        let mut told = Vec::new();
        {
            let mut shows = self.lock();
            let Some(show) = shows.get_mut(&show_id) else {
                return;
            };
            for status in found {
                // Who waits for the decision is not told that there is none yet.
                if status.decided.is_some() {
                    let bells = show.line.remove(&status.position);
                    told.extend(
                        bells
                            .into_iter()
                            .flatten()
                            .map(|bell| (bell, status.clone())),
                    );
                }
                let bells = show.decided.remove(&status.position);
                told.extend(
                    bells
                        .into_iter()
                        .flatten()
                        .map(|bell| (bell, status.clone())),
                );
            }
            if show.is_empty() {
                shows.remove(&show_id);
            }
        }
        self.count.fetch_sub(told.len(), Ordering::Relaxed);
        for (bell, status) in told {
            // It may have left in this moment.
            let _ = bell.sender.send(status);
        }
    }

    fn leave(&self, show_id: Uuid, position: Position, id: usize) {
        let mut shows = self.lock();
        let Some(show) = shows.get_mut(&show_id) else {
            return;
        };
        let left = remove(&mut show.line, position, id) + remove(&mut show.decided, position, id);
        self.count.fetch_sub(left, Ordering::Relaxed);
        if show.is_empty() {
            shows.remove(&show_id);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, Show>> {
        self.shows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Show {
    fn is_empty(&self) -> bool {
        self.line.is_empty() && self.decided.is_empty()
    }
}

/// Removes the bell of that id, and returns how many it removed.
fn remove(waiting: &mut BTreeMap<Position, Vec<Bell>>, position: Position, id: usize) -> usize {
    let Some(bells) = waiting.get_mut(&position) else {
        return 0;
    };
    let before = bells.len();
    bells.retain(|bell| bell.id != id);
    let removed = before - bells.len();
    if bells.is_empty() {
        waiting.remove(&position);
    }
    removed
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use stampede_shared::{
        domain::outcome::Reason,
        store::request_status::{Decided, Outcome},
    };

    use super::*;

    fn status(position: Position, decided: bool) -> RequestStatus {
        let at = DateTime::UNIX_EPOCH;
        RequestStatus {
            request_id: Uuid::from_u128(position as u128),
            position,
            buyer_id: "a".into(),
            accepted_at: at,
            decided: decided.then_some(Decided {
                at,
                outcome: Outcome::Rejected(Reason::SoldOut),
            }),
        }
    }

    #[tokio::test]
    async fn a_turn_rings_for_all_in_the_line_up_to_its_end() {
        let waiters = Arc::new(Waiters::default());
        let show_id = Uuid::nil();
        let mut inside = waiters.register(show_id, 5, false);
        let _outside = waiters.register(show_id, 6, false);
        let _later = waiters.register(show_id, 2, true);
        waiters.ring_line(show_id, 5);
        assert_eq!(waiters.rung(show_id), [5]);
        waiters.tell(show_id, vec![status(5, true)]);
        assert_eq!(inside.told().await, Some(status(5, true)));
        assert_eq!(waiters.len(), 2);
    }

    #[test]
    fn who_leaves_is_forgotten() {
        let waiters = Arc::new(Waiters::default());
        let waiter = waiters.register(Uuid::nil(), 1, false);
        assert_eq!((waiters.len(), waiters.shows().len()), (1, 1));
        drop(waiter);
        assert_eq!((waiters.len(), waiters.shows().len()), (0, 0));
    }

    #[test]
    fn an_undecided_answer_leaves_the_line_waiting() {
        let waiters = Arc::new(Waiters::default());
        let _waiter = waiters.register(Uuid::nil(), 1, false);
        waiters.ring(Uuid::nil(), &[1, 2]);
        assert_eq!(waiters.rung(Uuid::nil()), [1]);
        waiters.tell(Uuid::nil(), vec![status(1, false)]);
        assert_eq!(waiters.len(), 1);
    }
}
