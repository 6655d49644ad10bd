//! What a deployment leans on: health checks, metrics, keys from the command line.

use std::process::Command;

use reqwest::Method;

use crate::harness::{Api, binary, run};

fn healthcheck(url: &str) -> Command {
    let mut command = binary();
    command.args(["healthcheck", "--url", url]);
    command
}

fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

#[test]
fn both_parts_say_whether_they_are_ready() {
    run(async |arena| {
        let (mut process, api) = arena.api(&[]).await;
        let address = free_address();
        let mut worker = arena.worker(&["--metrics-listen", &address]).await;
        let urls = [
            format!("{}/readyz", api.url),
            format!("http://{address}/readyz"),
        ];
        for url in &urls {
            let output = healthcheck(url).output().unwrap();
            assert!(output.status.success(), "{output:?}");
        }
        // Without an argument it asks where the API listens.
        let listen = api.url.strip_prefix("http://").unwrap();
        let output = binary()
            .env("STAMPEDE_LISTEN", listen)
            .arg("healthcheck")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");

        process.stop().await;
        worker.stop().await;
        for url in &urls {
            let output = healthcheck(url).output().unwrap();
            assert_eq!(output.status.code(), Some(1));
            assert!(
                String::from_utf8(output.stderr)
                    .unwrap()
                    .starts_with("error: asking http://")
            );
        }
    });
}

#[test]
fn a_worker_shows_its_metrics() {
    run(async |arena| {
        let address = free_address();
        let _worker = arena.worker(&["--metrics-listen", &address]).await;
        let worker = Api::new(&format!("http://{address}"), "");
        assert_eq!(worker.get("/livez").await.status, 200);
        assert_eq!(worker.get("/metrics").await.status, 200);
        assert_eq!(worker.get("/v1/shows").await.status, 404);
    });
}

#[test]
fn a_key_from_the_command_line_opens_the_operators_door() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        for (role, status) in [("viewer", 403), ("admin", 200)] {
            let output = binary()
                .env("DATABASE_URL", arena.database_url())
                .args(["api-key", "--name", "test", "--role", role])
                .output()
                .unwrap();
            assert!(output.status.success(), "{output:?}");
            let key = String::from_utf8(output.stdout).unwrap();
            let api = Api::new(&api.url, key.trim());
            let keys = api.operate(Method::GET, "/api-keys", None).await;
            assert_eq!(keys.status, status, "{role}: {}", keys.body);
        }
    });
}
