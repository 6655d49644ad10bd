//! Connections: bounded in number and in the time that they take to send a head.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use axum::{Router, body::Body};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use tower::Service;
use tracing::debug;

use crate::{app::App, routes::router, settings::Settings};

/// The most connections at once; more wait to be accepted.
const CONNECTIONS_MAX: usize = 20_000;

/// How long a connection may be idle, or take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);

/// How long requests may take to end after the signal; hanging ones do not.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// The pause after a connection could not be accepted: file descriptors may have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The simulated gateway, bound to its address and not serving yet: clients that connect wait.
pub struct Gateway {
    listener: TcpListener,
    address: SocketAddr,
    router: Router,
    /// Connections and slow calls.
    tasks: TaskTracker,
    /// Ends them, and the callbacks, with the gateway.
    stop: DropGuard,
}

impl Gateway {
    /// Binds the address and reads the ledger. Fails with one clear line when the address is taken, a
    /// setting is wrong, or the ledger cannot be read.
    pub async fn bind(settings: Settings) -> anyhow::Result<Gateway> {
        let listen = settings.gateway_listen;
        let listener = TcpListener::bind(listen)
            .await
            .with_context(|| format!("cannot listen on {listen}"))?;
        let address = listener.local_addr().context("reading the bound address")?;
        let base_url = match &settings.gateway_public_url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => format!("http://{address}"),
        };
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let opening = {
            let (tasks, stop) = (tasks.clone(), stop.clone());
            move || App::open(settings, base_url, tasks, stop)
        };
        let app = tokio::task::spawn_blocking(opening).await??;
        Ok(Gateway {
            listener,
            address,
            router: router(Arc::new(app)),
            tasks,
            stop: stop.drop_guard(),
        })
    }

    /// The address that was bound, with the port that was free.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown`, then lets requests end for a second. Nobody uses the ledger afterwards.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
        let stop = self.stop.disarm();
        let stop_too = stop.clone().drop_guard();
        let serving = Serving {
            router: self.router,
            http: http(),
            places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            tasks: self.tasks.clone(),
            stop,
        };
        let graceful = GracefulShutdown::new();
        tokio::select! {
            () = shutdown => {}
            () = serving.accept(&self.listener, &graceful) => {}
        }
        drop(self.listener);
        tokio::time::timeout(DRAIN_TIMEOUT, graceful.shutdown())
            .await
            .ok();
        // What still hangs is cut off.
        drop(stop_too);
        self.tasks.close();
        self.tasks.wait().await;
        Ok(())
    }
}

fn http() -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT);
    http
}

/// What every connection needs.
struct Serving {
    router: Router,
    http: http1::Builder,
    places: Arc<Semaphore>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Serving {
    async fn accept(&self, listener: &TcpListener, graceful: &GracefulShutdown) {
        loop {
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((stream, _)) => self.serve(stream, graceful, place),
                Err(error) => {
                    debug!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn serve(&self, stream: TcpStream, graceful: &GracefulShutdown, place: OwnedSemaphorePermit) {
        stream.set_nodelay(true).ok();
        let router = self.router.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            router.clone().call(request.map(Body::new))
        });
        let connection = self.http.serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            if let Some(Err(error)) = stop.run_until_cancelled(connection).await {
                debug!(%error, "a connection ended early");
            }
            drop(place);
        });
    }
}
