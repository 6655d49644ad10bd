//! `stampede` in an empty folder: the first thing that anybody tries.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::harness::{Api, Process, binary, eventually};

/// An empty folder, removed at the end of the test.
struct EmptyFolder(PathBuf);

impl EmptyFolder {
    fn new(name: &str) -> EmptyFolder {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::remove_dir_all(&path).ok();
        fs::create_dir_all(&path).unwrap();
        EmptyFolder(path)
    }

    fn start(&self) -> Process {
        Process::spawn(
            "dev",
            binary()
                .current_dir(&self.0)
                .env("STAMPEDE_LISTEN", "127.0.0.1:0")
                .env("STAMPEDE_SIMULATED_LISTEN", "127.0.0.1:0"),
        )
    }

    /// The process of the embedded Postgres, if it runs.
    fn postmaster(&self) -> Option<u32> {
        let file = fs::read_to_string(self.0.join(".stampede/postgres/postmaster.pid")).ok()?;
        file.lines().next()?.trim().parse().ok()
    }
}

impl Drop for EmptyFolder {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            fs::remove_dir_all(&self.0).ok();
        }
    }
}

fn runs(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// Sends the `curl` that `dev` printed as it stands; what it showed.
async fn send_printed_curl(dev: &mut Process) -> String {
    let curl = format!("curl -sS {}", dev.said("curl ").await);
    let output = Command::new("sh")
        .args(["-c", &curl])
        .output()
        .expect("running curl");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Runs the commands that `dev` printed to pay for what was booked; what the last one showed.
async fn send_printed_payment(dev: &mut Process) -> String {
    dev.said("  Ctrl-C stops it").await;
    let text = dev.stdout();
    let start = text.find("\nshow=").expect("commands that pay");
    let end = text.find("  Ctrl-C").expect("the end of the greeting");
    let output = Command::new("sh")
        .args(["-c", &text[start..end]])
        .output()
        .expect("running the commands");
    String::from_utf8(output.stdout).unwrap()
}

async fn demo_show(url: &str) -> serde_json::Value {
    let shows = Api::new(url, "").get("/v1/shows").await.expect(200);
    let shows = shows["shows"].as_array().expect("a list of shows").clone();
    assert_eq!(shows.len(), 1, "{shows:?}");
    shows[0].clone()
}

#[tokio::test]
async fn dev_comes_up_in_an_empty_folder_and_keeps_its_data() {
    let folder = EmptyFolder::new("dev-empty-folder");
    let mut dev = folder.start();
    let url = dev.said("listening on ").await;
    let answer = send_printed_curl(&mut dev).await;
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    let paid = send_printed_payment(&mut dev).await;
    assert!(paid.starts_with("HTTP/1.1 201"), "{paid}");
    assert!(paid.contains("\"state\":\"confirmed\""), "{paid}");
    let show = demo_show(&url).await;
    let key = dev.said("  Operator's API key     ").await;
    let secrets = [
        "buyer-secret",
        "gateway-callback-secret",
        "gateway-key",
        "operator-key",
        "postgres.password",
    ];
    for secret in secrets {
        let mode = fs::metadata(folder.0.join(".stampede").join(secret))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{secret}");
    }
    let postmaster = folder.postmaster().expect("Postgres runs");
    dev.signal("INT");
    assert!(dev.exit().await.success(), "{}", dev.stderr());
    assert!(!runs(postmaster));

    let mut dev = folder.start();
    let url = dev.said("listening on ").await;
    assert_eq!(demo_show(&url).await["id"], show["id"]);
    assert_eq!(dev.said("  Operator's API key     ").await, key);
    let position = send_printed_curl(&mut dev).await;
    assert!(position.contains("\"position\":2"), "{position}");
    dev.stop().await;
}

#[tokio::test]
async fn a_killed_dev_leaves_no_postgres_behind_and_loses_nothing() {
    let folder = EmptyFolder::new("dev-killed");
    let mut dev = folder.start();
    let answer = send_printed_curl(&mut dev).await;
    assert!(answer.contains("\"position\":1"), "{answer}");
    let postmaster = folder.postmaster().expect("Postgres runs");
    dev.kill();
    eventually(Duration::from_secs(20), async || !runs(postmaster)).await;

    let mut dev = folder.start();
    let answer = send_printed_curl(&mut dev).await;
    assert!(answer.contains("\"position\":2"), "{answer}");
    // Nobody waits this time: the next one ends what is left.
    dev.kill();
    let mut dev = folder.start();
    let answer = send_printed_curl(&mut dev).await;
    assert!(answer.contains("\"position\":3"), "{answer}");
    dev.stop().await;
}

#[tokio::test]
async fn a_second_dev_in_the_same_folder_is_refused_in_one_line() {
    let folder = EmptyFolder::new("dev-twice");
    let mut dev = folder.start();
    dev.said("listening on ").await;
    let mut second = folder.start();
    assert_eq!(second.exit().await.code(), Some(1));
    assert_eq!(second.stderr().lines().count(), 1, "{}", second.stderr());
    assert!(
        second.stderr().contains("another process"),
        "{}",
        second.stderr()
    );
    dev.stop().await;
}
