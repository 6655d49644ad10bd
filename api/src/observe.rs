//! The outermost layer: one id, one span and one duration for each request, a body for each problem.

use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    sync::{Arc, RwLock},
    time::Instant,
};

use anyhow::anyhow;
use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, Method},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures::FutureExt;
use metrics::{Histogram, histogram};
use tracing::{Instrument, info_span};
use uuid::Uuid;

use crate::error::{Problem, write_problem};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Ready-made histograms, so that the hot path neither hashes labels nor allocates them.
#[derive(Default)]
pub struct Durations {
    by_route: RwLock<HashMap<String, ByMethod>>,
}

type ByMethod = HashMap<&'static str, Arc<ByStatusClass>>;

/// 1xx to 5xx.
type ByStatusClass = [Histogram; 5];

impl Durations {
    fn record(&self, route: &str, method: &'static str, status: u16, started: Instant) {
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        let histograms = self
            .find(route, method)
            .unwrap_or_else(|| self.create(route, method));
        histograms[class].record(started.elapsed().as_secs_f64());
    }

    fn find(&self, route: &str, method: &'static str) -> Option<Arc<ByStatusClass>> {
        let by_route = self.by_route.read().ok()?;
        by_route.get(route)?.get(method).cloned()
    }

    fn create(&self, route: &str, method: &'static str) -> Arc<ByStatusClass> {
        let histograms = Arc::new(["1xx", "2xx", "3xx", "4xx", "5xx"].map(|status| {
            histogram!(
                "stampede_http_request_duration_seconds",
                "route" => route.to_owned(), "method" => method, "status" => status,
            )
        }));
        if let Ok(mut by_route) = self.by_route.write() {
            let by_method = by_route.entry(route.to_owned()).or_default();
            by_method.insert(method, histograms.clone());
        }
        histograms
    }
}

/// Runs one request inside its span.
pub async fn observe(
    State(durations): State<Arc<Durations>>,
    request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let request_id = Uuid::now_v7();
    let method = method_name(request.method());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("unmatched", MatchedPath::as_str);
    let show_id = show_id(request.uri().path());
    let span = info_span!("request", %request_id, method, route, show.id = show_id);

    let answer = AssertUnwindSafe(next.run(request)).catch_unwind();
    let response = answer
        .instrument(span.clone())
        .await
        .unwrap_or_else(|_| Problem::internal(anyhow!("the handler panicked")).into_response());

    let mut response = span.in_scope(|| write_problem(response, request_id));
    if let Ok(value) = HeaderValue::try_from(request_id.to_string()) {
        response.headers_mut().insert(X_REQUEST_ID, value);
    }
    durations.record(route, method, response.status().as_u16(), started);
    response
}

/// A client may invent methods; the metrics know these.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// The show that a path is about, if it looks like one.
fn show_id(path: &str) -> Option<&str> {
    let (_, rest) = path.split_once("/shows/")?;
    let id = rest.split('/').next()?;
    let looks_like_one = id.len() <= 36 && id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    looks_like_one.then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_show_is_found_in_the_path() {
        assert_eq!(show_id("/v1/shows/0a-1/requests"), Some("0a-1"));
        assert_eq!(show_id("/v1/operator/shows/0a-1/sale"), Some("0a-1"));
        assert_eq!(show_id("/v1/shows/%0a/requests"), None);
        assert_eq!(show_id("/v1/buyers"), None);
    }
}
