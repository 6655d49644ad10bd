//! What a worker says about itself: /livez, /readyz and /metrics, for probes and Prometheus.
//!
//! A worker serves nobody else, so three paths on hyper alone do, without the API's framework.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use anyhow::Context;
use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::PrometheusHandle;
use stampede_shared::store::Database;
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;

/// Probes and one scraper; whoever else comes waits.
const CONNECTIONS_MAX: usize = 32;

/// For the head of a request, and for the time between two.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub struct WorkerHttp {
    listener: TcpListener,
    database: Database,
    metrics: PrometheusHandle,
}

impl WorkerHttp {
    pub async fn bind(
        address: SocketAddr,
        database: Database,
        metrics: PrometheusHandle,
    ) -> anyhow::Result<WorkerHttp> {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("listening on {address} for metrics"))?;
        Ok(WorkerHttp {
            listener,
            database,
            metrics,
        })
    }

    /// Answers until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.accept() => {}
        }
    }

    async fn accept(&self) {
        let places = std::sync::Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else {
                return;
            };
            let Ok((stream, _)) = self.listener.accept().await else {
                // Out of file descriptors, mostly: others will give some back.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let (database, metrics) = (self.database.clone(), self.metrics.clone());
            let service = service_fn(move |request| {
                let (database, metrics) = (database.clone(), metrics.clone());
                async move { Ok::<_, Infallible>(answer(&request, &database, &metrics).await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(CLIENT_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            tokio::spawn(async move {
                connection.await.ok();
                drop(place);
            });
        }
    }
}

async fn answer(
    request: &Request<Incoming>,
    database: &Database,
    metrics: &PrometheusHandle,
) -> Response<Full<Bytes>> {
    let (status, text) = match request.uri().path() {
        "/livez" => (StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => match database.check_migrated().await {
            Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
            Err(error) => {
                tracing::warn!("not ready: {error:#}");
                (
                    StatusCode::SERVICE_UNAVAILABLE,
                    "the database does not answer\n".to_owned(),
                )
            }
        },
        "/metrics" => (StatusCode::OK, metrics.render()),
        _ => (
            StatusCode::NOT_FOUND,
            "try /livez, /readyz or /metrics\n".to_owned(),
        ),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response
}
