//! Lookups by id, gathered: whoever asks while the database is answering others is answered by the next
//! read, together. One plan and one round trip serve a crowd.

use std::{collections::HashMap, sync::Arc};

use sqlx::PgConnection;
use stampede_shared::{
    group_commit::{GroupCommit, Overloaded},
    store::{
        Database,
        bookings::{self, Booking},
        error::is_transient,
        payments::{self, Payment},
        request_status::{self, RequestStatus},
    },
};
use thiserror::Error;
use uuid::Uuid;

/// Why something could not be looked up.
#[derive(Debug, Clone, Error)]
pub enum FindError {
    #[error("too many lookups wait already")]
    Overloaded(#[from] Overloaded),
    #[error("looking something up")]
    Database(#[source] Arc<sqlx::Error>),
}

impl FindError {
    /// Whether the same lookup may succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            FindError::Overloaded(_) => true,
            FindError::Database(error) => is_transient(error),
        }
    }
}

/// What is looked up by the id that it has in its show.
pub trait Found: Clone + Send + Sync + 'static {
    fn id(&self) -> Uuid;

    /// Those of the ids that there are, in no order.
    fn find(
        connection: &mut PgConnection,
        show_id: Uuid,
        ids: &[Uuid],
    ) -> impl Future<Output = sqlx::Result<Vec<Self>>> + Send;
}

/// Looks things of one kind up. Cheap to clone.
#[derive(Debug)]
pub struct Lookups<T: Found> {
    reads: GroupCommit<Uuid, Result<Option<T>, FindError>>,
}

impl<T: Found> Clone for Lookups<T> {
    fn clone(&self) -> Lookups<T> {
        Lookups {
            reads: self.reads.clone(),
        }
    }
}

impl<T: Found> Lookups<T> {
    pub fn new(database: Database) -> Lookups<T> {
        let reads = GroupCommit::new(move |show_id, ids: Vec<Uuid>| {
            let database = database.clone();
            async move { read(&database, show_id, ids).await }
        });
        Lookups { reads }
    }

    /// What has that id; `None` when nothing has.
    pub async fn find(&self, show_id: Uuid, id: Uuid) -> Result<Option<T>, FindError> {
        self.reads.call(show_id, id).await?
    }
}

/// One answer for each id.
async fn read<T: Found>(
    database: &Database,
    show_id: Uuid,
    ids: Vec<Uuid>,
) -> Vec<Result<Option<T>, FindError>> {
    let found = async {
        let mut tx = database.begin().await?;
        let found = T::find(&mut tx, show_id, &ids).await?;
        tx.commit().await?;
        Ok(found)
    };
    match found.await.map_err(Arc::new) {
        Ok(found) => {
            let found: HashMap<Uuid, T> = found.into_iter().map(|it| (it.id(), it)).collect();
            ids.iter().map(|id| Ok(found.get(id).cloned())).collect()
        }
        Err(error) => vec![Err(FindError::Database(error)); ids.len()],
    }
}

impl Found for RequestStatus {
    fn id(&self) -> Uuid {
        self.request_id
    }

    async fn find(
        connection: &mut PgConnection,
        show_id: Uuid,
        ids: &[Uuid],
    ) -> sqlx::Result<Vec<RequestStatus>> {
        request_status::find_by_ids(connection, show_id, ids).await
    }
}

impl Found for Payment {
    fn id(&self) -> Uuid {
        self.payment_id
    }

    async fn find(
        connection: &mut PgConnection,
        show_id: Uuid,
        ids: &[Uuid],
    ) -> sqlx::Result<Vec<Payment>> {
        payments::find(connection, show_id, ids).await
    }
}

impl Found for Booking {
    fn id(&self) -> Uuid {
        self.booking_id
    }

    async fn find(
        connection: &mut PgConnection,
        show_id: Uuid,
        ids: &[Uuid],
    ) -> sqlx::Result<Vec<Booking>> {
        bookings::find(connection, show_id, ids).await
    }
}
