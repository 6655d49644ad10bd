//! Connections: bounded in number, in the size of what they send, and in the time they may take to
//! send it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use axum::{Router, body::Body};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use metrics::{Gauge, gauge};
use metrics_exporter_prometheus::PrometheusHandle;
use stampede_shared::{store::Database, webhooks::WebhookSettings};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::Service;
use tracing::{debug, info, warn};

use crate::{
    app::{App, SharedApp},
    extract::Peer,
    routes::router,
    settings::Settings,
};

/// The most bytes that are read ahead. A head beyond the limit of 16 KB that fits in here is refused
/// with a problem; one that does not, with a bare 431.
const READ_AHEAD_MAX: usize = 64 * 1024;

/// The pause after a connection could not be accepted: file descriptors may have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The API, bound to its address and not serving yet: clients that connect wait.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    app: SharedApp,
    /// Ends the tasks of the app with the server.
    _stop: DropGuard,
}

impl Server {
    /// Binds the address and starts the parts. Fails with one clear line when the address is taken or a
    /// setting is wrong.
    pub async fn bind(
        settings: Settings,
        payments: &stampede_payments::Settings,
        webhooks: WebhookSettings,
        database: Database,
        prometheus: PrometheusHandle,
    ) -> anyhow::Result<Server> {
        let listen = settings.listen;
        let listener = TcpListener::bind(listen)
            .await
            .with_context(|| format!("cannot listen on {listen}"))?;
        let address = listener.local_addr().context("reading the bound address")?;
        let stop = CancellationToken::new();
        let app = App::start(settings, payments, webhooks, database, prometheus, &stop)?;
        Ok(Server {
            listener,
            address,
            app,
            _stop: stop.drop_guard(),
        })
    }

    /// The address that was bound, with the port that was free.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown`, then lets requests end for as long as the settings allow.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
        let Server {
            listener,
            app,
            _stop,
            ..
        } = self;
        let serving = Serving {
            router: router(Arc::clone(&app)),
            http: http(&app.settings),
            places: Arc::new(Semaphore::new(app.settings.connections_max)),
            open: gauge!("stampede_http_connections"),
        };
        let graceful = GracefulShutdown::new();
        tokio::select! {
            () = shutdown => {}
            () = serving.accept(&listener, &graceful) => {}
        }
        drop(listener);
        app.draining.cancel();
        info!(connections = graceful.count(), "draining");
        let drain_timeout = app.settings.drain_timeout();
        if tokio::time::timeout(drain_timeout, graceful.shutdown())
            .await
            .is_err()
        {
            warn!("some requests did not end in time and were cut off");
        }
        Ok(())
    }
}

fn http(settings: &Settings) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(settings.header_timeout())
        .max_buf_size(READ_AHEAD_MAX);
    http
}

/// What every connection needs.
struct Serving {
    router: Router,
    http: http1::Builder,
    places: Arc<Semaphore>,
    open: Gauge,
}

impl Serving {
    async fn accept(&self, listener: &TcpListener, graceful: &GracefulShutdown) {
        loop {
            // Beyond the bound the kernel keeps them waiting.
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((stream, peer)) => self.serve(stream, Peer(peer), graceful, place),
                Err(error) => {
                    debug!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn serve(
        &self,
        stream: TcpStream,
        peer: Peer,
        graceful: &GracefulShutdown,
        place: OwnedSemaphorePermit,
    ) {
        stream.set_nodelay(true).ok();
        let router = self.router.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer);
            router.clone().call(request)
        });
        let connection = self.http.serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        let open = self.open.clone();
        open.increment(1);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!(%error, "a connection ended early");
            }
            open.decrement(1);
            drop(place);
        });
    }
}
