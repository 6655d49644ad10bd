//! Bad input: whatever a client sends, it is told what is wrong with it, and nothing else happens.

mod bodies;
mod headers;
mod operators;
mod raw;
mod tokens;
mod urls;

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::Value;
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::{
    harness::{Answer, Api, Arena, Process, floor, seated, send, show},
    wishes::{body, places},
};

/// Requests that must be refused, and how.
#[derive(Default)]
struct Cases(Vec<Case>);

struct Case {
    what: String,
    request: RequestBuilder,
    status: u16,
    code: &'static str,
}

impl Cases {
    fn add(
        &mut self,
        status: u16,
        code: &'static str,
        what: impl Into<String>,
        request: RequestBuilder,
    ) {
        let what = what.into();
        self.0.push(Case {
            what,
            request,
            status,
            code,
        });
    }
}

impl Case {
    fn is_answered_by(&self, answer: &Answer) -> bool {
        let (code, problem) = (self.code, &answer.body);
        answer.status == self.status
            && answer.header("content-type") == Some("application/problem+json")
            && problem["status"] == self.status
            && problem["code"] == code
            && problem["type"] == format!("/problems/{code}")
            && ["title", "detail", "request_id"]
                .iter()
                .all(|name| problem[name].is_string())
    }
}

/// A server with an open show, and what is in its database.
struct Target<'a> {
    arena: &'a Arena,
    process: Process,
    api: Api,
    show: String,
}

impl Target<'_> {
    async fn new(arena: &Arena) -> Target<'_> {
        let (process, api) = arena.api(&[]).await;
        let show = api
            .open_show(&show([seated("A", 2, 8), floor("FLOOR", 100)]))
            .await;
        Target {
            arena,
            process,
            api,
            show,
        }
    }

    fn requests_path(&self) -> String {
        format!("/v1/shows/{}/requests", self.show)
    }

    /// A submission without a body.
    fn submission(&self) -> RequestBuilder {
        let key = Uuid::now_v7().to_string();
        self.api
            .buyer("ada")
            .request(Method::POST, &self.requests_path())
            .header("Idempotency-Key", key)
            .header("Content-Type", "application/json")
    }

    /// A good submission without its key.
    fn without_key(&self) -> RequestBuilder {
        self.api
            .buyer("ada")
            .request(Method::POST, &self.requests_path())
            .json(&good())
    }

    /// A good submission without its credentials.
    fn without_token(&self) -> RequestBuilder {
        self.api
            .request(Method::POST, &self.requests_path())
            .header("Idempotency-Key", "key-0001")
            .json(&good())
    }

    /// Every table, its rows counted and hashed.
    async fn contents(&self) -> Vec<(String, i64, String)> {
        let pool = &self.arena.pool;
        let tables: Vec<String> = sqlx::query_scalar(
            "select table_name::text
            from information_schema.tables
            where table_schema = 'public' and table_type = 'BASE TABLE'
            order by table_name",
        )
        .fetch_all(pool)
        .await
        .unwrap();
        let mut contents = Vec::new();
        for table in tables {
            let rows = "md5(string_agg(rows::text, chr(10) order by rows::text))";
            let hash = format!("select count(*), coalesce({rows}, '') from {table} rows");
            let (count, hash) = sqlx::query_as(AssertSqlSafe(hash))
                .fetch_one(pool)
                .await
                .unwrap();
            contents.push((table, count, hash));
        }
        contents
    }

    /// Sends them all. Afterwards the process lives, nothing has changed, and a good one is accepted.
    async fn refuses(mut self, cases: Cases) {
        let before = self.contents().await;
        let mut wrong = Vec::new();
        for case in cases.0 {
            let answer = send(case.request.try_clone().unwrap()).await;
            if !case.is_answered_by(&answer) {
                let Case {
                    what, status, code, ..
                } = case;
                let Answer {
                    status: other,
                    body,
                    ..
                } = answer;
                wrong.push(format!("{what}: not {status} {code} but {other} {body}"));
            }
        }
        assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
        assert_eq!(self.contents().await, before);
        assert!(self.process.is_running());
        let accepted = self.api.buyer("ada").submit(&self.show, &good()).await;
        assert_eq!(accepted.status, StatusCode::ACCEPTED);
        assert!(!self.process.stderr().contains("panicked"));
    }
}

fn good() -> Value {
    body(&[places("FLOOR", 1)])
}
