//! The server that a flood starts for itself: a database, an API and workers, as real processes of
//! this very binary.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use rand::Rng;
use sqlx::{
    ConnectOptions, Postgres as PostgresDatabase, migrate::MigrateDatabase,
    postgres::PgConnectOptions,
};
use stampede_devdb::{Durability, Postgres};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use crate::args::ServerArgs;

/// How long a process may take until it says that it is ready.
const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// What is shown of the log of a process that did not start.
const LOG_TAIL: usize = 1_000;

/// The limits stay on, so that their cost is in the figures, but one address is the whole crowd.
const RATES: [(&str, &str); 3] = [
    ("STAMPEDE_RATE_BUYER", "10000/1"),
    ("STAMPEDE_RATE_ADDRESS", "10000000/1"),
    ("STAMPEDE_RATE_SHOW", "10000000/1"),
];

/// What belongs to one process only, or to another database.
const NOT_INHERITED: [&str; 4] = [
    "STAMPEDE_LISTEN_DATABASE_URL",
    "STAMPEDE_METRICS_LISTEN",
    "STAMPEDE_TRUSTED_PROXIES",
    "STAMPEDE_BUYER_PUBLIC_KEY",
];

/// A server of the flood's own. [`OwnServer::stop`] it; when dropped, its processes are killed.
pub struct OwnServer {
    pub url: String,
    pub operator_key: String,
    pub buyer_secret: String,
    pub database_url: String,
    keep: bool,
    // In the order in which they end when dropped.
    processes: Vec<Process>,
    database: Database,
    folder: PathBuf,
}

/// Where the rows are, and what to remove afterwards.
enum Database {
    Embedded(Box<Postgres>),
    /// A fresh one on somebody's server.
    Fresh,
}

/// A part of the server, ready.
struct Process {
    name: String,
    child: Child,
    /// Kept open: a process whose output is closed might end.
    _stdout: Lines<BufReader<ChildStdout>>,
}

/// What all the processes get.
struct Launcher<'a> {
    folder: &'a Path,
    database_url: &'a str,
    buyer_secret: &'a str,
}

impl OwnServer {
    pub async fn start(args: &ServerArgs) -> anyhow::Result<OwnServer> {
        ensure!(args.workers > 0, "a server needs at least one worker");
        let folder = std::env::temp_dir().join(format!("stampede-flood-{}", std::process::id()));
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("creating {}", folder.display()))?;
        let (database, database_url) = match &args.database_url {
            Some(url) => (Database::Fresh, create_database(url).await?),
            None => {
                let postgres =
                    Postgres::start(&folder.join("postgres"), Durability::Durable).await?;
                let url = postgres.url("stampede");
                PostgresDatabase::create_database(&url)
                    .await
                    .context("creating the database")?;
                (Database::Embedded(Box::new(postgres)), url)
            }
        };
        let mut server = OwnServer {
            url: String::new(),
            operator_key: String::new(),
            buyer_secret: secret(),
            database_url,
            keep: args.keep,
            processes: Vec::new(),
            database,
            folder,
        };
        match server.start_processes(args.workers).await {
            Ok(()) => Ok(server),
            Err(error) => {
                // The first failure is the one to report.
                let _ = server.stop().await;
                Err(error)
            }
        }
    }

    async fn start_processes(&mut self, workers: usize) -> anyhow::Result<()> {
        let launcher = Launcher {
            folder: &self.folder,
            database_url: &self.database_url,
            buyer_secret: &self.buyer_secret,
        };
        launcher.run(&["migrate"]).await?;
        let key = launcher
            .run(&["api-key", "--role", "admin", "--name", "flood"])
            .await?;
        self.operator_key = key.trim().to_owned();
        let (api, ready) = launcher
            .start("api", &["api", "--listen", "127.0.0.1:0"], "listening on ")
            .await?;
        self.url = ready;
        self.processes.push(api);
        for number in 1..=workers {
            let name = format!("worker-{number}");
            let (worker, _) = launcher.start(&name, &["worker"], "working").await?;
            self.processes.push(worker);
        }
        Ok(())
    }

    /// Returns when one of the processes has ended, which none should; with the end of its log.
    pub async fn failure(&mut self) -> anyhow::Error {
        let folder = self.folder.clone();
        let ends = self
            .processes
            .iter_mut()
            .map(|process| Box::pin(async { (process.name.clone(), process.child.wait().await) }));
        let ((name, status), ..) = futures::future::select_all(ends).await;
        let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        anyhow::anyhow!(
            "stampede {name} ended ({status}): {}",
            log_tail(&log_path(&folder, &name))
        )
    }

    /// Kills the processes, and removes the database and the logs unless they are to be kept.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        for process in &mut self.processes {
            process
                .child
                .kill()
                .await
                .with_context(|| format!("killing {}", process.name))?;
        }
        let mut data = None;
        match self.database {
            Database::Embedded(postgres) => {
                data = Some(postgres.data().to_owned());
                postgres.stop().await?;
            }
            Database::Fresh if self.keep => {}
            Database::Fresh => PostgresDatabase::force_drop_database(&self.database_url)
                .await
                .context("dropping the flood's database")?,
        }
        if self.keep {
            eprintln!(
                "kept: {} and {}",
                self.folder.display(),
                data.map_or(self.database_url, |data| data.display().to_string())
            );
            return Ok(());
        }
        if let Some(data) = data {
            remove(&data)?;
        }
        remove(&self.folder)
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
    async fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
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
    async fn start(
        &self,
        name: &str,
        arguments: &[&str],
        ready: &str,
    ) -> anyhow::Result<(Process, String)> {
        let log = log_path(self.folder, name);
        let stderr = File::create(&log).with_context(|| format!("creating {}", log.display()))?;
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

/// A new database beside the one of the URL.
async fn create_database(url: &str) -> anyhow::Result<String> {
    let options: PgConnectOptions = url.parse().context("the database URL is malformed")?;
    let name = format!("stampede_flood_{}", std::process::id());
    let url = options.database(&name).to_url_lossy().to_string();
    let reached = "the database cannot be reached; check DATABASE_URL";
    if PostgresDatabase::database_exists(&url)
        .await
        .context(reached)?
    {
        PostgresDatabase::force_drop_database(&url)
            .await
            .context("dropping an old flood's database")?;
    }
    PostgresDatabase::create_database(&url)
        .await
        .context("creating the flood's database")?;
    Ok(url)
}

fn secret() -> String {
    let mut dice = rand::rng();
    (0..4)
        .map(|_| format!("{:016x}", dice.random::<u64>()))
        .collect()
}

fn log_path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.log"))
}

fn log_tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let from = text.len().saturating_sub(LOG_TAIL);
    let from = (from..=text.len())
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(from);
    let tail = text[from..].trim();
    if tail.is_empty() {
        "it said nothing".to_owned()
    } else {
        tail.to_owned()
    }
}

fn remove(folder: &Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", folder.display()))
        }
        _ => Ok(()),
    }
}
