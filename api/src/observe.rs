//! The outermost layer: one id, one span and one duration for each request, a body for each problem.

use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    sync::{Arc, OnceLock, RwLock},
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

use crate::error::{Code, Problem, write_problem};

/// The most bytes in the URL and the headers of a request.
const HEAD_MAX: usize = 16 * 1024;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Ready-made histograms, so that the hot path neither hashes labels nor allocates them.
#[derive(Default)]
pub struct Durations {
    by_route: RwLock<HashMap<String, ByMethod>>,
}

type ByMethod = HashMap<&'static str, Arc<ByStatusClass>>;

/// 1xx to 5xx, made when there is something to count.
type ByStatusClass = [OnceLock<Histogram>; 5];

const STATUS_CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

impl Durations {
    fn record(&self, route: &str, method: &'static str, status: u16, started: Instant) {
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        let by_class = self
            .find(route, method)
            .unwrap_or_else(|| self.create(route, method));
        let histogram = by_class[class].get_or_init(|| {
            histogram!(
                "stampede_http_request_duration_seconds",
                "route" => route.to_owned(), "method" => method, "status" => STATUS_CLASSES[class],
            )
        });
        histogram.record(started.elapsed().as_secs_f64());
    }

    fn find(&self, route: &str, method: &'static str) -> Option<Arc<ByStatusClass>> {
        let by_route = self.by_route.read().ok()?;
        by_route.get(route)?.get(method).cloned()
    }

    fn create(&self, route: &str, method: &'static str) -> Arc<ByStatusClass> {
        let Ok(mut by_route) = self.by_route.write() else {
            return Arc::default();
        };
        let by_method = by_route.entry(route.to_owned()).or_default();
        Arc::clone(by_method.entry(method).or_default())
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

    let answer = AssertUnwindSafe(answer(request, next)).catch_unwind();
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

async fn answer(request: Request, next: Next) -> Response {
    if head_size(&request) > HEAD_MAX {
        let detail = "the URL and the headers together are too long";
        return Problem::new(Code::HeadersTooLarge, detail).into_response();
    }
    next.run(request).await
}

fn head_size(request: &Request) -> usize {
    let uri = request.uri();
    let url = uri.path().len() + uri.query().map_or(0, str::len);
    let headers = request.headers().iter();
    let headers = headers.map(|(name, value)| name.as_str().len() + value.len());
    url + headers.sum::<usize>()
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
