//! A JSON body: read as a whole within its limit, then parsed with a pointer to what is wrong.

use std::time::Duration;

use axum::{
    body::Bytes,
    extract::{FromRequest, Request},
    http::{HeaderMap, StatusCode, header},
};
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use serde_path_to_error::{Path, Segment};

use crate::{
    app::SharedApp,
    error::{Code, FieldError, Problem},
};

/// A body that says it is JSON, not parsed yet: rate limits come first.
pub struct JsonBody(Bytes);

impl FromRequest<SharedApp> for JsonBody {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &SharedApp) -> Result<JsonBody, Problem> {
        if !says_json(request.headers()) {
            return Err(Problem::new(
                Code::UnsupportedMediaType,
                "send the body as application/json",
            ));
        }
        read(request, app.settings.body_timeout())
            .await
            .map(JsonBody)
    }
}

/// A JSON body that may be left out: an empty one of no type is an empty object.
pub struct OptionalBody(pub JsonBody);

impl FromRequest<SharedApp> for OptionalBody {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &SharedApp) -> Result<OptionalBody, Problem> {
        if request.headers().contains_key(header::CONTENT_TYPE) {
            return JsonBody::from_request(request, app).await.map(OptionalBody);
        }
        let bytes = read(request, app.settings.body_timeout()).await?;
        if bytes.is_empty() {
            return Ok(OptionalBody(JsonBody(Bytes::from_static(b"{}"))));
        }
        Err(Problem::new(
            Code::UnsupportedMediaType,
            "send the body as application/json",
        ))
    }
}

/// Reads the whole body; `DefaultBodyLimit` of the route bounds it.
async fn read(request: Request, timeout: Duration) -> Result<Bytes, Problem> {
    let bytes = tokio::time::timeout(timeout, Bytes::from_request(request, &())).await;
    match bytes {
        Err(_) => Err(Problem::new(
            Code::RequestTimeout,
            "the body did not arrive in time",
        )),
        Ok(Err(error)) if error.status() == StatusCode::PAYLOAD_TOO_LARGE => Err(Problem::new(
            Code::BodyTooLarge,
            "the body is larger than this resource takes",
        )),
        Ok(Err(_)) => Err(Problem::new(
            Code::InvalidRequest,
            "the body could not be read",
        )),
        Ok(Ok(bytes)) => Ok(bytes),
    }
}

fn says_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
    else {
        return false;
    };
    let essence = value.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

impl JsonBody {
    /// The body as `T`: 400 when it is not JSON, 422 when it is not a `T`.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        let mut json = serde_json::Deserializer::from_slice(&self.0);
        let value = serde_path_to_error::deserialize(&mut json)
            .map_err(|error| self.refuse(error.path(), error.inner()))?;
        json.end().map_err(|error| refuse_syntax(&error))?;
        Ok(value)
    }

    fn refuse(&self, path: &Path, error: &serde_json::Error) -> Problem {
        // Where one of some words is expected, serde_json calls a number a syntax error.
        if error.classify() != Category::Data
            && let Err(error) = serde_json::from_slice::<serde_json::Value>(&self.0)
        {
            return refuse_syntax(&error);
        }
        Problem::invalid_body(vec![FieldError::new(pointer(path), without_place(error))])
    }
}

fn refuse_syntax(error: &serde_json::Error) -> Problem {
    Problem::new(Code::InvalidJson, format!("the body is not JSON: {error}"))
}

/// Where, as RFC 6901 has it.
fn pointer(path: &Path) -> String {
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key } => {
                pointer.push('/');
                pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
            }
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    pointer
}

/// The message without `at line 1 column 7`: the pointer says where.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Order {
        #[serde(rename = "items")]
        _items: Vec<Item>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Item {
        #[serde(rename = "count")]
        _count: u32,
        #[serde(rename = "size")]
        _size: Option<Size>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Size {
        Small,
    }

    fn parse(body: &'static str) -> Result<Order, Problem> {
        JsonBody(Bytes::from_static(body.as_bytes())).parse()
    }

    #[test]
    fn what_is_not_json_is_a_400() {
        for body in [
            "",
            "{",
            "nonsense",
            r#"{"items":[]} {}"#,
            r#"{"items":[]}x"#,
            r#"{"items":[{"count":01}]}"#,
            "\u{feff}",
        ] {
            assert_eq!(parse(body).unwrap_err().code(), Code::InvalidJson, "{body}");
        }
    }

    #[test]
    fn the_pointer_says_where() {
        for (body, pointer) in [
            (
                r#"{"items":[{"count":1},{"count":"two"}]}"#,
                "/items/1/count",
            ),
            (r#"{"items":[{"count":1.5}]}"#, "/items/0/count"),
            (r#"{"items":[{"count":-1}]}"#, "/items/0/count"),
            (r#"{"items":[{"count":1,"size":2}]}"#, "/items/0/size"),
            (r#"{"items":[{"count":1,"extra":2}]}"#, "/items/0/extra"),
            (r#"{"items":[{}]}"#, "/items/0"),
            (r#"{"items":null}"#, "/items"),
            ("{}", ""),
            ("[]", ""),
            ("null", ""),
        ] {
            let problem = parse(body).unwrap_err();
            assert_eq!(problem.code(), Code::InvalidBody, "{body}");
            assert_eq!(problem.errors()[0].pointer, pointer, "{body}");
            assert!(!problem.errors()[0].detail.contains("line"), "{body}");
        }
    }

    #[test]
    fn the_media_type_may_have_parameters() {
        let says = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, value.parse().unwrap());
            says_json(&headers)
        };
        assert!(says("application/json") && says("Application/JSON; charset=utf-8"));
        assert!(!says("text/plain") && !says("application/json-seq"));
        assert!(!says_json(&HeaderMap::new()));
    }
}
