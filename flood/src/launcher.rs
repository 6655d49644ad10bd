//! Starting the parts of a server as processes of this very binary.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

/// How long a process may take until it says that it is ready.
const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// How many lines are shown of the log of a process that ended.
const LOG_TAIL: usize = 3;

/// The limits stay on, so that their cost is in the figures, but one address is the whole crowd.
const RATES: [(&str, &str); 3] = [
    ("STAMPEDE_RATE_BUYER", "10000/1"),
    ("STAMPEDE_RATE_ADDRESS", "10000000/1"),
    ("STAMPEDE_RATE_SHOW", "10000000/1"),
];

/// What belongs to one process only, to another database, or to another gateway.
const NOT_INHERITED: [&str; 13] = [
    "STAMPEDE_LISTEN_DATABASE_URL",
    "STAMPEDE_METRICS_LISTEN",
    "STAMPEDE_TRUSTED_PROXIES",
    "STAMPEDE_BUYER_PUBLIC_KEY",
    "STAMPEDE_GATEWAY",
    "STAMPEDE_GATEWAY_URL",
    "STAMPEDE_GATEWAY_KEY",
    "STAMPEDE_GATEWAY_CALLBACK_SECRETS",
    "STAMPEDE_SIMULATED_LISTEN",
    "STAMPEDE_SIMULATED_PUBLIC_URL",
    "STAMPEDE_SIMULATED_CALLBACK_URL",
    "STAMPEDE_SIMULATED_LEDGER",
    "STAMPEDE_SIMULATED_KEY_MEMORY_SECONDS",
];

/// A part of the server, ready.
pub struct Process {
    pub name: String,
    log: PathBuf,
    child: Child,
    /// Kept open: a process whose output is closed might end.
    _stdout: Lines<BufReader<ChildStdout>>,
}

/// What all the processes get.
pub struct Launcher<'a> {
    /// For the logs.
    pub folder: &'a Path,
    pub database_url: &'a str,
    pub buyer_secret: &'a str,
    /// Of payments: names and values.
    pub settings: &'a [(&'static str, String)],
}

impl Process {
    /// Returns when it has ended, which it should not; with the end of its log.
    pub async fn failure(&mut self) -> anyhow::Error {
        let told = |status: ExitStatus| status.to_string();
        let status = self
            .child
            .wait()
            .await
            .map_or_else(|error| error.to_string(), told);
        anyhow::anyhow!(
            "stampede {} ended ({status}): {}",
            self.name,
            log_tail(&self.log)
        )
    }

    /// Ends it as a power cut would.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.child
            .kill()
            .await
            .with_context(|| format!("killing stampede {}", self.name))
    }
}

impl Launcher<'_> {
    fn command(&self, arguments: &[&str]) -> anyhow::Result<Command> {
        let program = std::env::current_exe().context("looking for this program's file")?;
        let mut command = Command::new(program);
        command.args(arguments).envs(RATES);
        command.env("DATABASE_URL", self.database_url);
        command.env("STAMPEDE_BUYER_SECRET", self.buyer_secret);
        for name in NOT_INHERITED {
            command.env_remove(name);
        }
        for (name, value) in self.settings {
            command.env(name, value);
        }
        if std::env::var_os("STAMPEDE_LOG").is_none() {
            command.env("STAMPEDE_LOG", "warn");
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        Ok(command)
    }

    /// Runs to the end; gives the output.
    pub async fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let name = arguments.join(" ");
        let output = self
            .command(arguments)?
            .stderr(Stdio::piped())
            .output()
            .await;
        let output = output.with_context(|| format!("running stampede {name}"))?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "stampede {name}: {}",
            errors.trim()
        );
        String::from_utf8(output.stdout).with_context(|| format!("reading from stampede {name}"))
    }

    /// Starts, and waits for the line that says that it is ready; gives what follows `ready` in it.
    pub async fn start(
        &self,
        name: &str,
        arguments: &[&str],
        ready: &str,
    ) -> anyhow::Result<(Process, String)> {
        let log = self.folder.join(format!("{name}.log"));
        let stderr = File::options().create(true).append(true).open(&log);
        let stderr = stderr.with_context(|| format!("opening {}", log.display()))?;
        let child = self.command(arguments)?.stderr(stderr).spawn();
        let mut child = child.with_context(|| format!("starting stampede {name}"))?;
        let stdout = child.stdout.take().context("its output is piped")?;
        let mut lines = BufReader::new(stdout).lines();
        let told = tokio::time::timeout(READY_TIMEOUT, async {
            while let Some(line) = lines.next_line().await? {
                if let Some(rest) = line.strip_prefix(ready) {
                    return Ok(Some(rest.to_owned()));
                }
            }
            std::io::Result::Ok(None)
        })
        .await;
        match told {
            Ok(Ok(Some(told))) => {
                let process = Process {
                    name: name.to_owned(),
                    log,
                    child,
                    _stdout: lines,
                };
                Ok((process, told))
            }
            Ok(_) => bail!("stampede {name} did not start: {}", log_tail(&log)),
            Err(_) => bail!(
                "stampede {name} is not ready after {READY_TIMEOUT:?}: {}",
                log_tail(&log)
            ),
        }
    }
}

fn log_tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n");
    if tail.is_empty() {
        "it said nothing".to_owned()
    } else {
        tail
    }
}
