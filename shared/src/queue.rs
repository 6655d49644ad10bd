//! The apalis backend: emits one task for each show that has undecided requests.
//!
//! There is no row per task. The log and the progress row say what is to be done, a [`ShowTurn`] only
//! says where, so a lost one costs nothing and one too many finds nothing to do. Shows are found by
//! NOTIFY and by polling; the least recently served goes first. The backend never fails: when the
//! database is away it waits and looks again.

use std::{
    collections::HashSet,
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use apalis_core::{
    backend::{Backend, BackendConfig, finalize::Ephemeral},
    task::{
        Task,
        builder::TaskBuilder,
        task_id::{GenerateId, RandomId},
    },
    worker::context::WorkerContext,
};
use tokio::sync::{Notify, mpsc};
use tracing::{debug, warn};
use uuid::Uuid;

use crate::store::{Database, across_shows, notify};

/// How many shows one look brings: more would be stale before they are served.
const SHOWS_PER_LOOK: i64 = 8;

/// The longest pause between two looks while the database is away.
const BACK_OFF_MAX: Duration = Duration::from_secs(2);

/// The turn of one show. Dropping it lets this process take the next turn of the same show.
#[derive(Debug)]
pub struct ShowTurn {
    pub show_id: Uuid,
    taken: Arc<Taken>,
}

impl Drop for ShowTurn {
    fn drop(&mut self) {
        self.taken.shows().remove(&self.show_id);
        self.taken.wake.notify_one();
    }
}

/// The shows whose turn this process has, and the bell that rings when it should look for more.
#[derive(Debug, Default)]
struct Taken {
    shows: Mutex<HashSet<Uuid>>,
    wake: Notify,
}

impl Taken {
    fn shows(&self) -> std::sync::MutexGuard<'_, HashSet<Uuid>> {
        self.shows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the turn of a show unless this process has it already.
    fn take(self: &Arc<Taken>, show_id: Uuid) -> Option<ShowTurn> {
        self.shows().insert(show_id).then(|| ShowTurn {
            show_id,
            taken: Arc::clone(self),
        })
    }
}

/// The queue of show turns.
#[derive(Debug)]
pub struct ShowQueue {
    turns: mpsc::Receiver<ShowTurn>,
    finder: tokio::task::JoinHandle<()>,
    listener: tokio::task::JoinHandle<()>,
}

impl ShowQueue {
    /// Starts to look for work, at least every `poll_interval`.
    pub fn new(database: Database, poll_interval: Duration) -> ShowQueue {
        // One turn waits ready; the next is looked for when it is taken, on fresh figures.
        let (sender, turns) = mpsc::channel(1);
        let taken = Arc::new(Taken::default());
        let listener = tokio::spawn(listen(database.clone(), Arc::clone(&taken), poll_interval));
        let finder = tokio::spawn(find(database, taken, sender, poll_interval));
        ShowQueue {
            turns,
            finder,
            listener,
        }
    }
}

impl Drop for ShowQueue {
    fn drop(&mut self) {
        self.finder.abort();
        self.listener.abort();
    }
}

/// Sends turns for as long as somebody takes them.
async fn find(
    database: Database,
    taken: Arc<Taken>,
    turns: mpsc::Sender<ShowTurn>,
    poll_interval: Duration,
) {
    let mut back_off = poll_interval;
    while let Ok(room) = turns.reserve().await {
        let except: Vec<Uuid> = taken.shows().iter().copied().collect();
        match across_shows::shows_with_work(&database.pool, &except, SHOWS_PER_LOOK).await {
            Ok(shows) => {
                back_off = poll_interval;
                if shows.is_empty() {
                    drop(room);
                    let _ = tokio::time::timeout(poll_interval, taken.wake.notified()).await;
                    continue;
                }
                let mut room = Some(room);
                for turn in shows.into_iter().filter_map(|show_id| taken.take(show_id)) {
                    let place = match room.take() {
                        Some(place) => place,
                        None => match turns.reserve().await {
                            Ok(place) => place,
                            Err(_) => return,
                        },
                    };
                    place.send(turn);
                }
            }
            Err(error) => {
                drop(room);
                warn!(%error, "cannot look for shows with work; trying again");
                tokio::time::sleep(back_off).await;
                back_off = (back_off * 2).min(BACK_OFF_MAX);
            }
        }
    }
}

/// Rings the bell for each NOTIFY. Without it everything still happens, at the poll interval.
async fn listen(database: Database, taken: Arc<Taken>, poll_interval: Duration) {
    loop {
        match database.listen(notify::ACCEPTED).await {
            Ok(mut listener) => {
                while let Ok(notification) = listener.try_recv().await {
                    if notification.is_none() {
                        debug!("the listening connection was lost; it is made again");
                    }
                    taken.wake.notify_one();
                }
            }
            Err(error) => debug!(%error, "cannot listen; polling alone"),
        }
        tokio::time::sleep(poll_interval).await;
    }
}

/// The tracing layer insists on an id; a turn that is emitted again is another task.
fn task(turn: ShowTurn) -> Task<ShowTurn> {
    TaskBuilder::new(turn).task_id(RandomId::generate()).build()
}

impl Backend for ShowQueue {
    type Task = Task<ShowTurn>;
    type Error = Infallible;

    fn poll_ready(
        &mut self,
        _: &mut Context<'_>,
        _: &WorkerContext,
    ) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn poll_next(
        &mut self,
        context: &mut Context<'_>,
        _: &WorkerContext,
    ) -> Poll<Option<Result<Task<ShowTurn>, Infallible>>> {
        self.turns
            .poll_recv(context)
            .map(|turn| turn.map(|turn| Ok(task(turn))))
    }

    fn poll_close(
        &mut self,
        _: &mut Context<'_>,
        _: &WorkerContext,
    ) -> Poll<Result<(), Infallible>> {
        self.turns.close();
        Poll::Ready(Ok(()))
    }
}

impl BackendConfig for ShowQueue {
    type Args = ShowTurn;
    type Id = RandomId;
    type Kind = Ephemeral;
    type Config = ();
    type Layer = tower_layer::Identity;

    fn config(&self) -> &() {
        &()
    }

    fn middleware(&mut self, _: &mut WorkerContext) -> tower_layer::Identity {
        tower_layer::Identity::new()
    }
}
