//! A `stampede` process: started, signalled, awaited, and gone when the test is.

use std::{
    io::{BufRead, BufReader, Read},
    os::unix::process::ExitStatusExt,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::Duration,
};

use super::eventually;

/// The binary takes milliseconds to start; on a busy machine, and for `dev` with its initdb, more.
const START_LIMIT: Duration = Duration::from_secs(60);

const EXIT_LIMIT: Duration = Duration::from_secs(30);

/// How a process ends that ends itself, on Unix.
const SIGABRT: i32 = 6;

/// A command of the binary under test. Settings from the environment of the test run do not reach it.
pub fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stampede"));
    for (name, _) in std::env::vars_os() {
        let name_bytes = name.as_encoded_bytes();
        if name_bytes.starts_with(b"STAMPEDE_") || name_bytes == b"DATABASE_URL" {
            command.env_remove(name);
        }
    }
    command
}

/// A running process. It is killed when it is dropped, and what it said is shown if the test fails.
pub struct Process {
    name: String,
    child: Child,
    stdout: Arc<Mutex<String>>,
    stderr: Arc<Mutex<String>>,
    /// Each ends with the stream that it collects.
    collectors: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts the command and collects what it says.
    pub fn spawn(name: &str, command: &mut Command) -> Process {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("starting the binary");
        let (stdout, out) = collect(child.stdout.take().expect("stdout is piped"));
        let (stderr, err) = collect(child.stderr.take().expect("stderr is piped"));
        Process {
            name: name.to_owned(),
            child,
            stdout,
            stderr,
            collectors: vec![out, err],
        }
    }

    /// Waits for a line on standard output that starts so, and returns the rest of it.
    pub async fn said(&mut self, prefix: &str) -> String {
        let mut found = None;
        let deadline = tokio::time::Instant::now() + START_LIMIT;
        while found.is_none() {
            let ended = self
                .child
                .try_wait()
                .expect("waiting for the process")
                .is_some();
            let text = self.stdout();
            // Only whole lines: the rest of the last one may be on its way.
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            found = whole
                .lines()
                .find_map(|line| line.strip_prefix(prefix))
                .map(str::to_owned);
            let late = tokio::time::Instant::now() > deadline;
            assert!(
                found.is_some() || !(ended || late),
                "{} did not say `{prefix}`; it said:\n{text}{}",
                self.name,
                self.stderr(),
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        found.unwrap_or_default()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal named as in `kill -s`: TERM, INT, KILL, STOP, CONT.
    pub fn signal(&self, signal: &str) {
        let status = Command::new("sh")
            .args([
                "-c",
                "kill -s \"$1\" \"$2\"",
                "sh",
                signal,
                &self.pid().to_string(),
            ])
            .status()
            .expect("running kill");
        assert!(status.success(), "sending {signal} to {}", self.name);
    }

    /// Kills the process without a warning and waits until it is gone.
    pub fn kill(&mut self) {
        self.child.kill().expect("killing the process");
        self.child.wait().expect("waiting for the killed process");
    }

    /// Waits for its end, and for all that it said.
    pub async fn exit(&mut self) -> ExitStatus {
        let child = Mutex::new(&mut self.child);
        let mut status = None;
        eventually(EXIT_LIMIT, || {
            let mut child = child.lock().unwrap();
            status = child.try_wait().expect("waiting for the process");
            std::future::ready(status.is_some())
        })
        .await;
        for collector in self.collectors.drain(..) {
            collector.join().expect("collecting what the process says");
        }
        status.expect("it ended")
    }

    /// Waits for its end at a fail point that ends processes; nothing else will do.
    pub async fn crash(&mut self) {
        let status = self.exit().await;
        let aborted = status.signal() == Some(SIGABRT);
        assert!(aborted, "{} ended with {status}", self.name);
    }

    /// Asks it to stop and waits until it has; it must say that all went well.
    pub async fn stop(&mut self) {
        self.signal("TERM");
        let status = self.exit().await;
        assert!(
            status.success(),
            "{} ended with {status}: {}",
            self.name,
            self.stderr()
        );
    }

    pub fn is_running(&mut self) -> bool {
        self.child
            .try_wait()
            .expect("waiting for the process")
            .is_none()
    }

    /// What it said so far.
    pub fn stdout(&self) -> String {
        self.stdout.lock().unwrap().clone()
    }

    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// The memory that it uses, as Linux tells it.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
        kib * 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if thread::panicking() {
            eprintln!(
                "--- {} ({}) said:\n{}{}",
                self.name,
                self.pid(),
                self.stdout(),
                self.stderr()
            );
        }
    }
}

fn collect(from: impl Read + Send + 'static) -> (Arc<Mutex<String>>, JoinHandle<()>) {
    let text = Arc::new(Mutex::new(String::new()));
    let collected = text.clone();
    let collector = thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let mut text = collected.lock().unwrap();
            text.push_str(&line);
            text.push('\n');
        }
    });
    (text, collector)
}
