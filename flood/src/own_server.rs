//! The server that a flood starts for itself: a database, an API and workers, as real processes of
//! this very binary.

use std::{path::PathBuf, pin::pin, time::Duration};

use anyhow::{Context, ensure};
use rand::Rng;

use crate::{
    args::ServerArgs,
    launcher::{Launcher, Process},
    scratch::ScratchDatabase,
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
    database: ScratchDatabase,
    folder: Folder,
}

/// The logs; removed when dropped, unless it is to be kept.
struct Folder {
    path: PathBuf,
    keep: bool,
}

const API: &str = "api";

impl OwnServer {
    pub async fn start(args: &ServerArgs) -> anyhow::Result<OwnServer> {
        ensure!(args.workers > 0, "a server needs at least one worker");
        let folder = Folder::create(args.keep)?;
        let database =
            ScratchDatabase::create(args.database_url.as_deref(), "stampede_flood").await?;
        let mut server = OwnServer {
            url: "http://127.0.0.1:0".to_owned(),
            operator_key: String::new(),
            buyer_secret: secret(),
            database_url: database.url.clone(),
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

    /// Does the work while watching the processes, and if `kill_every` says so, kills them and an
    /// embedded database in turn and starts them again. Fails when one has ended by itself or does
    /// not come back. What was killed is started again before this returns.
    pub async fn watch<T>(
        &mut self,
        kill_every: Option<Duration>,
        work: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let mut work = pin!(work);
        let mut victims = (0..=self.processes.len()).cycle();
        loop {
            tokio::select! {
                done = &mut work => return done,
                failure = self.failure() => return Err(failure),
                () = tokio::time::sleep(kill_every.unwrap_or(Duration::MAX)) => {}
            }
            let victim = victims.next().unwrap_or_default();
            let mut restart = pin!(self.kill_and_start(victim));
            tokio::select! {
                started = &mut restart => started?,
                done = &mut work => {
                    restart.await?;
                    return done;
                }
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
        self.database.crash_and_restart().await
    }

    /// Kills the processes, and removes the database and the logs unless they are to be kept.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        for process in &mut self.processes {
            process.kill().await?;
        }
        if !self.keep {
            return self.database.remove().await;
        }
        let database = self.database.keep().await?;
        eprintln!(
            "kept: the database {database}, the logs in {}",
            self.folder.path.display()
        );
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
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

fn secret() -> String {
    let mut dice = rand::rng();
    (0..4)
        .map(|_| format!("{:016x}", dice.random::<u64>()))
        .collect()
}
