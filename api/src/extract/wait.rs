//! How long an answer may take: `Prefer: wait=25` (RFC 7240), or `?wait=25` for clients that cannot
//! set headers.

use std::time::Duration;

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderName, HeaderValue, request::Parts},
    response::{IntoResponseParts, ResponseParts},
};

use super::Query;
use crate::error::Problem;

/// Longer waits are shortened to this: proxies cut idle requests after a minute.
const WAIT_MAX_S: u64 = 30;

const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// What the client asked for, capped; `None` when it did not ask. As a part of the response it says
/// what was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait(Option<u64>);

impl Wait {
    pub fn duration(self) -> Option<Duration> {
        self.0.map(Duration::from_secs)
    }
}

#[derive(serde::Deserialize)]
struct Parameters {
    wait: Option<u64>,
}

impl<S: Send + Sync> FromRequestParts<S> for Wait {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Wait, Problem> {
        let Query(parameters) = Query::<Parameters>::from_request_parts(parts, state).await?;
        let asked = preferred(&parts.headers).or(parameters.wait);
        Ok(Wait(asked.map(|seconds| seconds.min(WAIT_MAX_S))))
    }
}

/// A preference that cannot be read is ignored, as RFC 7240 has it.
fn preferred(headers: &HeaderMap) -> Option<u64> {
    let lines = headers
        .get_all("prefer")
        .iter()
        .filter_map(|line| line.to_str().ok());
    lines
        .flat_map(|line| line.split(','))
        .find_map(|preference| {
            let preference = preference.split(';').next()?;
            let (name, value) = preference.split_once('=')?;
            if !name.trim().eq_ignore_ascii_case("wait") {
                return None;
            }
            value.trim().trim_matches('"').parse().ok()
        })
}

impl IntoResponseParts for Wait {
    type Error = std::convert::Infallible;

    fn into_response_parts(self, mut parts: ResponseParts) -> Result<ResponseParts, Self::Error> {
        if let Some(seconds) = self.0 {
            let value = HeaderValue::try_from(format!("wait={seconds}"));
            let value = value.expect("a number is visible ASCII");
            parts.headers_mut().insert(PREFERENCE_APPLIED, value);
        }
        Ok(parts)
    }
}

#[cfg(test)]
mod tests {
    use axum::{http::Request, response::IntoResponse};

    use super::*;

    async fn of(uri: &str, prefer: &[&str]) -> Result<Option<u64>, Problem> {
        let mut request = Request::builder().uri(uri);
        for line in prefer {
            request = request.header("prefer", *line);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        Wait::from_request_parts(&mut parts, &())
            .await
            .map(|wait| wait.0)
    }

    #[tokio::test]
    async fn the_header_and_the_parameter_ask_for_a_wait() {
        assert_eq!(of("/", &[]).await.unwrap(), None);
        assert_eq!(of("/", &["wait=25"]).await.unwrap(), Some(25));
        assert_eq!(of("/?wait=7", &[]).await.unwrap(), Some(7));
        assert_eq!(of("/?wait=7", &["wait=25"]).await.unwrap(), Some(25));
        assert_eq!(
            of("/", &["respond-async, Wait = \"5\"; strict"])
                .await
                .unwrap(),
            Some(5)
        );
        assert_eq!(
            of("/", &["return=minimal", "wait=3"]).await.unwrap(),
            Some(3)
        );
    }

    #[tokio::test]
    async fn a_wait_is_capped_and_nonsense_is_no_wait() {
        assert_eq!(of("/", &["wait=3600"]).await.unwrap(), Some(30));
        assert_eq!(of("/", &["wait=soon"]).await.unwrap(), None);
        assert_eq!(of("/", &["wait=-1"]).await.unwrap(), None);
        assert!(of("/?wait=soon", &[]).await.is_err());
    }

    #[test]
    fn what_was_applied_is_said() {
        let response = (Wait(Some(30)), "").into_response();
        assert_eq!(response.headers()["preference-applied"], "wait=30");
    }
}
