//! Bytes that no HTTP client would send.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{Cases, Target};
use crate::harness::{Api, run};

/// Sends bytes that no HTTP client would and returns all that came back.
async fn send_bytes(api: &Api, bytes: &[u8]) -> String {
    let address = api.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    // An error is fine after the answer: the server hangs up on what it has not read.
    tokio::time::timeout(Duration::from_secs(5), read)
        .await
        .expect("it hangs up")
        .ok();
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn what_is_not_http_is_hung_up_on() {
    run(async |arena| {
        let target = Target::new(arena).await;
        let many_headers = "X: y\r\n".repeat(200);
        let get = "GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";
        for (status, bytes) in [
            (400, "garbage\r\n\r\n".to_owned()),
            (400, "\u{0}\u{1}\u{2}\r\n\r\n".to_owned()),
            (400, "GET /livez HTTP/9.9\r\n\r\n".to_owned()),
            (400, format!("{get}X: a\u{0}b\r\n\r\n")),
            (400, format!("{get}no colon\r\n\r\n")),
            (400, format!("{get}Content-Length: -1\r\n\r\n")),
            (
                400,
                format!("{get}Content-Length: 1\r\nContent-Length: 2\r\n\r\n"),
            ),
            (431, format!("{get}{many_headers}\r\n")),
            (431, format!("{get}X: {}\r\n\r\n", "x".repeat(100_000))),
        ] {
            let answer = send_bytes(&target.api, bytes.as_bytes()).await;
            let expected = format!("HTTP/1.1 {status} ");
            let shown: String = bytes.chars().take(60).collect();
            assert!(answer.starts_with(&expected), "{shown:?}: {answer}");
        }
        target.refuses(Cases::default()).await;
    });
}

#[test]
fn a_body_that_lies_about_its_length_is_refused() {
    run(async |arena| {
        let target = Target::new(arena).await;
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\
            Idempotency-Key: key-0001\r\nContent-Type: application/json\r\n",
            target.requests_path(),
            target.api.buyer("ada").token,
        );
        let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
        for (status, code, rest) in [
            (
                400,
                "invalid-request",
                "Transfer-Encoding: chunked\r\n\r\nzz\r\n".to_owned(),
            ),
            (
                413,
                "body-too-large",
                format!(
                    "Transfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n",
                    chunk.repeat(5)
                ),
            ),
            (
                400,
                "invalid-json",
                "Content-Length: 5\r\n\r\n{\"wishes\": []}".to_owned(),
            ),
        ] {
            let answer = send_bytes(&target.api, format!("{head}{rest}").as_bytes()).await;
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{code}: {answer}"
            );
            assert!(answer.contains(&format!("\"code\":\"{code}\"")), "{answer}");
        }
        target.refuses(Cases::default()).await;
    });
}
