//! The server that a flood starts for itself: a database, an API and workers, as real processes of
//! this very binary.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, ensure};
use rand::Rng;
use sqlx::{
    ConnectOptions, Postgres as PostgresDatabase, migrate::MigrateDatabase,
    postgres::PgConnectOptions,
};
use stampede_devdb::{Durability, Postgres};

use crate::{
    args::ServerArgs,
    launcher::{Launcher, Process},
};

/// A server of the flood's own. [`OwnServer::stop`] it; when dropped, its processes are killed.
pub struct OwnServer {
    /// Of the API; the same after it was killed.
    pub url: String,
    pub operator_key: String,
    pub buyer_secret: String,
    pub database_url: String,
    keep: bool,
    // In the order in which they end when dropped.
    processes: Vec<Process>,
    database: Database,
    folder: Folder,
}

/// Where the rows are, and what to remove afterwards.
enum Database {
    Embedded(Box<Postgres>),
    /// A fresh one on somebody's server.
    Fresh,
    /// It was embedded, and did not come back.
    Gone,
}

/// The logs and the embedded database; removed when dropped, unless it is to be kept.
struct Folder {
    path: PathBuf,
    keep: bool,
}

const API: &str = "api";

impl OwnServer {
    pub async fn start(args: &ServerArgs) -> anyhow::Result<OwnServer> {
        ensure!(args.workers > 0, "a server needs at least one worker");
        let folder = Folder::create(args.keep)?;
        let (database, database_url) = match &args.database_url {
            Some(url) => (Database::Fresh, create_database(url).await?),
            None => {
                let data = folder.path.join("postgres");
                let postgres = Postgres::start(&data, Durability::Durable).await?;
                let url = postgres.url("stampede");
                PostgresDatabase::create_database(&url)
                    .await
                    .context("creating the database")?;
                (Database::Embedded(Box::new(postgres)), url)
            }
        };
        let mut server = OwnServer {
            url: "http://127.0.0.1:0".to_owned(),
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
        let launcher = self.launcher();
        launcher.run(&["migrate"]).await?;
        let key = launcher
            .run(&["api-key", "--role", "admin", "--name", "flood"])
            .await?;
        self.operator_key = key.trim().to_owned();
        let api = self.start_process(API).await?;
        self.processes.push(api);
        for number in 1..=workers {
            let worker = self.start_process(&format!("worker-{number}")).await?;
            self.processes.push(worker);
        }
        Ok(())
    }

    async fn start_process(&mut self, name: &str) -> anyhow::Result<Process> {
        if name == API {
            let address = self.url.trim_start_matches("http://");
            let (api, url) = self
                .launcher()
                .start(name, &["api", "--listen", address], "listening on ")
                .await?;
            self.url = url;
            return Ok(api);
        }
        let (worker, _) = self.launcher().start(name, &["worker"], "working").await?;
        Ok(worker)
    }

    fn launcher(&self) -> Launcher<'_> {
        Launcher {
            folder: &self.folder.path,
            database_url: &self.database_url,
            buyer_secret: &self.buyer_secret,
        }
    }

    /// Watches the processes, and if `kill_every` says so, kills them and an embedded database in
    /// turn and starts them again. Returns when one has ended by itself or does not come back.
    pub async fn watch(&mut self, kill_every: Option<Duration>) -> anyhow::Error {
        let mut victims = (0..=self.processes.len()).cycle();
        loop {
            let pause = kill_every.unwrap_or(Duration::MAX);
            if let Ok(failure) = tokio::time::timeout(pause, self.failure()).await {
                return failure;
            }
            let victim = victims.next().unwrap_or_default();
            if let Err(error) = self.kill_and_start(victim).await {
                return error;
            }
        }
    }

    /// When one of the processes has ended, which none should; with the end of its log.
    async fn failure(&mut self) -> anyhow::Error {
        let failures = self
            .processes
            .iter_mut()
            .map(|process| Box::pin(process.failure()));
        futures::future::select_all(failures).await.0
    }

    /// The process with this index, or the database.
    async fn kill_and_start(&mut self, victim: usize) -> anyhow::Result<()> {
        if let Some(process) = self.processes.get_mut(victim) {
            process.kill().await?;
            let name = process.name.clone();
            self.processes[victim] = self.start_process(&name).await?;
            return Ok(());
        }
        self.database = match std::mem::replace(&mut self.database, Database::Gone) {
            Database::Embedded(postgres) => {
                Database::Embedded(Box::new(postgres.crash_and_restart().await?))
            }
            other => other,
        };
        Ok(())
    }

    /// Kills the processes, and removes the database and the logs unless they are to be kept.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        for process in &mut self.processes {
            process.kill().await?;
        }
        match self.database {
            Database::Embedded(postgres) => {
                let data = postgres.data().to_owned();
                postgres.stop().await?;
                if self.keep {
                    eprintln!("kept: the database in {}", data.display());
                } else {
                    remove(&data)?;
                }
            }
            Database::Fresh if self.keep => eprintln!("kept: {}", self.database_url),
            Database::Fresh => PostgresDatabase::force_drop_database(&self.database_url)
                .await
                .context("dropping the flood's database")?,
            Database::Gone => {}
        }
        if self.keep {
            eprintln!("kept: the logs in {}", self.folder.path.display());
        }
        Ok(())
    }
}

impl Folder {
    fn create(keep: bool) -> anyhow::Result<Folder> {
        let path = std::env::temp_dir().join(format!("stampede-flood-{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
        Ok(Folder { path, keep })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.keep {
            // What cannot be removed from a temporary folder is the system's to remove.
            let _ = remove(&self.path);
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

fn remove(folder: &Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", folder.display()))
        }
        _ => Ok(()),
    }
}
