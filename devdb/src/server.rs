//! One run of the server, and the watchdog that ends it when this process is gone.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom},
    os::unix::{fs::OpenOptionsExt, process::CommandExt},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

use crate::{Durability, binaries::Binaries, cluster::Cluster};

/// Crash recovery of a big flood is the longest that a start can take.
const START_PATIENCE: Duration = Duration::from_secs(120);

/// A fast shutdown writes a checkpoint; when that hangs, a crash is as good.
const STOP_PATIENCE: Duration = Duration::from_secs(30);

/// A log that grew beyond this is begun anew at the next start.
const LOG_BYTES_MAX: u64 = 10 << 20;

/// Waits for the end of its standard input, whose other end this process holds until it ends in
/// whatever way, and then asks the server for a fast shutdown. It waits for the server's pid file
/// first: before that, the server would not hear the signal. A server that is gone needs nothing.
const WATCHDOG: &str = r#"
while read -r _; do :; done
tries=0
while [ $tries -lt 100 ] && kill -0 "$1" 2>/dev/null; do
    if [ "$(head -n 1 "$2/postmaster.pid" 2>/dev/null)" = "$1" ]; then
        kill -INT "$1"
        exit
    fi
    tries=$((tries + 1))
    sleep 0.1
done
"#;

#[derive(Debug)]
pub struct Server {
    postmaster: Child,
    watchdog: Child,
}

impl Server {
    /// Starts the server and waits until it accepts connections. `None` if somebody took the port.
    pub async fn start(
        cluster: &Cluster,
        binaries: &Binaries,
        durability: Durability,
        port: u16,
    ) -> anyhow::Result<Option<Server>> {
        let mut log = open_log(cluster)?;
        let log_start = log.seek(SeekFrom::End(0))?;
        let mut command = cluster.account.command(binaries.program("postgres"));
        command
            .arg("-D")
            .arg(&cluster.data)
            .args(arguments(durability, port));
        // A group of its own: Ctrl-C on the terminal is for us, who drain before the server goes.
        command.process_group(0).stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log.try_clone()?);
        let postmaster = command.spawn().context("starting postgres")?;
        let watchdog = cluster
            .account
            .command("sh")
            .args(["-c", WATCHDOG, "sh", &postmaster.id().to_string()])
            .arg(&cluster.data)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting the watchdog of postgres")?;
        let mut server = Server {
            postmaster,
            watchdog,
        };

        if server.wait_until_ready(cluster).await? {
            return Ok(Some(server));
        }
        let said = read_from(&cluster.log, log_start)?;
        if said.contains("could not bind") {
            return Ok(None);
        }
        let fatal = said.lines().find_map(|line| line.split_once("FATAL:"));
        match fatal {
            Some((_, reason)) => bail!("postgres does not start: {}", reason.trim()),
            None => bail!("postgres does not start; see {}", cluster.log.display()),
        }
    }

    /// False if the server ended instead.
    async fn wait_until_ready(&mut self, cluster: &Cluster) -> anyhow::Result<bool> {
        let started = Instant::now();
        let pid = self.postmaster.id().to_string();
        loop {
            if self.postmaster.try_wait()?.is_some() {
                return Ok(false);
            }
            let lines = cluster.postmaster_file().unwrap_or_default();
            if lines.first() == Some(&pid) && lines.get(7).is_some_and(|line| line == "ready") {
                return Ok(true);
            }
            if started.elapsed() > START_PATIENCE {
                bail!(
                    "postgres is not ready after {START_PATIENCE:?}; see {}",
                    cluster.log.display()
                );
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Ends the server by `INT` (fast: what is committed is in the files) or `QUIT` (a crash), and
    /// waits until it is gone.
    pub async fn stop(mut self, signal: &str) -> anyhow::Result<()> {
        send_signal(self.postmaster.id(), signal);
        let mut patience = Instant::now() + STOP_PATIENCE;
        while self.postmaster.try_wait()?.is_none() {
            if patience < Instant::now() {
                send_signal(self.postmaster.id(), "QUIT");
                patience = Instant::now() + STOP_PATIENCE;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        drop(self.watchdog.stdin.take());
        while self.watchdog.try_wait()?.is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

/// Sends a signal, named as in `kill -s`. A process that is gone is no error.
pub fn send_signal(pid: u32, signal: &str) {
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "kill -s \"$1\" \"$2\"",
        "sh",
        signal,
        &pid.to_string(),
    ]);
    command.stderr(Stdio::null()).status().ok();
}

fn arguments(durability: Durability, port: u16) -> Vec<String> {
    let mut settings = vec![
        "listen_addresses=127.0.0.1".to_owned(),
        format!("port={port}"),
        "unix_socket_directories=".to_owned(),
        "max_connections=300".to_owned(),
        "shared_buffers=256MB".to_owned(),
        "max_wal_size=4GB".to_owned(),
        "logging_collector=off".to_owned(),
        "log_destination=stderr".to_owned(),
        "fsync=on".to_owned(),
        // Without it a commit could be lost in a crash of Postgres alone.
        "synchronous_commit=on".to_owned(),
    ];
    if durability == Durability::ProcessOnly {
        settings.extend(["fsync=off", "full_page_writes=off"].map(str::to_owned));
    }
    settings
        .into_iter()
        .flat_map(|setting| ["-c".to_owned(), setting])
        .collect()
}

fn open_log(cluster: &Cluster) -> anyhow::Result<File> {
    let path = &cluster.log;
    let context = || format!("opening {}", path.display());
    let mut options = OpenOptions::new();
    let log = options
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .with_context(context)?;
    if log.metadata()?.len() > LOG_BYTES_MAX {
        log.set_len(0)?;
    }
    Ok(log)
}

fn read_from(path: &std::path::Path, start: u64) -> anyhow::Result<String> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(start))?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
