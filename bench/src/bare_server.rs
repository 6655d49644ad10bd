//! The bare limit of accepting: an HTTP server that appends what it gets and says 202. No route, no token,
//! no limits, no validation, no idempotency, no lock; the same group commit of the same rows.

use std::{convert::Infallible, net::SocketAddr};

use anyhow::Result;
use chrono::Utc;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use stampede_shared::store::{Database, bare, booking_requests::NewRequests};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    task::AbortHandle,
};
use uuid::Uuid;

/// As many rows in one commit as the product's intake takes.
const BATCH_MAX: usize = 1000;

type Waiting = oneshot::Sender<()>;

/// A running bare server; ends when dropped.
pub struct BareServer {
    pub address: SocketAddr,
    tasks: [AbortHandle; 2],
}

impl Drop for BareServer {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl BareServer {
    /// Appends to the log of a show that nobody else writes; `wishes` is what every row asks for.
    pub async fn start(database: Database, show_id: Uuid, wishes: String) -> Result<BareServer> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (sender, receiver) = mpsc::channel(16_384);
        let writer = tokio::spawn(write(database, show_id, wishes, receiver)).abort_handle();
        let acceptor = tokio::spawn(accept(listener, sender)).abort_handle();
        Ok(BareServer {
            address,
            tasks: [writer, acceptor],
        })
    }
}

async fn accept(listener: TcpListener, sender: mpsc::Sender<Waiting>) {
    while let Ok((stream, _)) = listener.accept().await {
        let sender = sender.clone();
        tokio::spawn(async move {
            stream.set_nodelay(true).ok();
            let service = service_fn(|request| answer(request, sender.clone()));
            http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await
                .ok();
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    sender: mpsc::Sender<Waiting>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::new(Bytes::from_static(b"{}")));
    let (committed, commit) = oneshot::channel();
    let read = request.into_body().collect().await.is_ok();
    if read && sender.send(committed).await.is_ok() && commit.await.is_ok() {
        *response.status_mut() = StatusCode::ACCEPTED;
    } else {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    Ok(response)
}

async fn write(
    database: Database,
    show_id: Uuid,
    wishes: String,
    mut receiver: mpsc::Receiver<Waiting>,
) {
    let mut last_position = 0;
    let mut batch = Vec::new();
    while receiver.recv_many(&mut batch, BATCH_MAX).await > 0 {
        let mut rows = NewRequests::default();
        for _ in &batch {
            last_position += 1;
            rows.positions.push(last_position);
            rows.request_ids.push(Uuid::now_v7());
            rows.buyer_ids.push(format!("buyer-{last_position}"));
            rows.idempotency_keys.push(format!("key-{last_position}"));
            rows.body_hashes.push(vec![0; 32]);
            rows.wishes.push(wishes.clone());
            rows.max_totals.push(None);
        }
        // On failure the senders are dropped, and the clients are told.
        if append(&database, show_id, &rows).await.is_ok() {
            for committed in batch.drain(..) {
                committed.send(()).ok();
            }
        }
        batch.clear();
    }
}

async fn append(database: &Database, show_id: Uuid, rows: &NewRequests) -> sqlx::Result<()> {
    let mut tx = database.begin().await?;
    bare::append(&mut tx, show_id, rows, Utc::now()).await?;
    tx.commit().await
}
