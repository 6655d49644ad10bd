//! A server that plays Stripe: it gives the answers it was told, in their order, and keeps what it was asked.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Request, Response, body::Bytes, body::Incoming, server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use reqwest::Url;
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// One answer.
pub enum Tell {
    Json(u16, Value),
    /// The answer to an earlier call with the same key.
    Replay(u16, Value),
    /// Something that is not Stripe's.
    Text(u16, &'static str),
    /// No answer, while the connection stays open.
    Silence,
    /// No answer, and the connection is closed.
    Close,
}

/// A request as it came.
#[derive(Debug)]
pub struct Seen {
    method: String,
    url: Url,
    headers: HeaderMap,
    body: String,
}

pub struct Stub {
    pub url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    told: Arc<Mutex<VecDeque<Tell>>>,
    server: JoinHandle<()>,
}

impl Stub {
    pub async fn start(told: impl IntoIterator<Item = Tell>) -> Stub {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::new(Mutex::new(told.into_iter().collect()));
        let server = tokio::spawn(serve(listener, Arc::clone(&seen), Arc::clone(&told)));
        Stub {
            url,
            seen,
            told,
            server,
        }
    }

    /// What was asked, after every answer was given.
    pub fn seen(&self) -> Vec<Seen> {
        let left = self.told.lock().unwrap().len();
        assert_eq!(left, 0, "so many answers were not asked for");
        std::mem::take(&mut self.seen.lock().unwrap())
    }

    /// The only request.
    pub fn only(&self) -> Seen {
        let mut seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen.remove(0)
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Seen {
    /// The method and the path.
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.url.path())
    }

    pub fn query(&self) -> Vec<(String, String)> {
        self.url.query_pairs().into_owned().collect()
    }

    /// The fields of the body, which has to be a form.
    pub fn form(&self) -> Vec<(String, String)> {
        let kind = self.header("content-type");
        assert_eq!(kind, Some("application/x-www-form-urlencoded"));
        let mut url = self.url.clone();
        url.set_query(Some(&self.body));
        url.query_pairs().into_owned().collect()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next().map(|value| value.to_str().unwrap());
        assert!(values.next().is_none(), "{name} came twice");
        value
    }
}

async fn serve(
    listener: TcpListener,
    seen: Arc<Mutex<Vec<Seen>>>,
    told: Arc<Mutex<VecDeque<Tell>>>,
) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(speak(stream, Arc::clone(&seen), Arc::clone(&told)));
    }
}

async fn speak(stream: TcpStream, seen: Arc<Mutex<Vec<Seen>>>, told: Arc<Mutex<VecDeque<Tell>>>) {
    let service = service_fn(|request| {
        let (seen, told) = (Arc::clone(&seen), Arc::clone(&told));
        async move {
            let asked = keep(request).await;
            seen.lock().unwrap().push(asked);
            let tell = told.lock().unwrap().pop_front();
            answer(tell.expect("more was asked than the test has answers for")).await
        }
    });
    // A client that leaves is part of some tests.
    http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await
        .ok();
}

async fn keep(request: Request<Incoming>) -> Seen {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let base = Url::parse("http://stripe.test").unwrap();
    Seen {
        method: head.method.to_string(),
        url: base.join(&head.uri.to_string()).unwrap(),
        headers: head.headers,
        body: String::from_utf8(body.to_vec()).unwrap(),
    }
}

async fn answer(tell: Tell) -> Result<Response<Full<Bytes>>, &'static str> {
    let (status, replayed, body) = match tell {
        Tell::Json(status, body) => (status, false, body.to_string()),
        Tell::Replay(status, body) => (status, true, body.to_string()),
        Tell::Text(status, body) => (status, false, body.to_owned()),
        Tell::Close => return Err("told to close"),
        Tell::Silence => {
            tokio::time::sleep(Duration::from_secs(60)).await;
            return Err("told to be silent");
        }
    };
    let mut response = Response::builder().status(status);
    if replayed {
        response = response.header("idempotent-replayed", "true");
    }
    Ok(response.body(Full::from(body)).unwrap())
}
