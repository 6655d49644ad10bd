//! The server that a flood starts for itself: a database, an API and workers, as real processes of
//! this very binary.

use std::{net::TcpListener, path::PathBuf, pin::pin, time::Duration};

use anyhow::{Context, ensure};
use rand::Rng;
use serde::Serialize;

use crate::{
    args::ServerArgs,
    launcher::{Launcher, Process},
    scratch::ScratchDatabase,
};

/// What is looked up after half a minute in production is looked up after a second here, so that a flood
/// of seconds sees the end of payments that hang.
const PAYMENT_STUCK_MS: u32 = 1_000;
const GATEWAY_TIMEOUT_MS: u32 = 2_000;
const PAYMENT_FENCE_SECONDS: u32 = 5;
const JOB_INTERVAL_MS: u32 = 200;

/// How the server is set that a flood starts.
#[derive(Debug, Clone, Serialize)]
pub struct ServerPlan {
    pub workers: usize,
    /// A part of it is killed so often.
    pub kill_every_s: Option<f64>,
    pub payment_stuck_ms: u32,
    pub gateway_timeout_ms: u32,
    pub payment_fence_seconds: u32,
    pub job_interval_ms: u32,
}

impl ServerPlan {
    pub fn new(args: &ServerArgs) -> ServerPlan {
        ServerPlan {
            workers: args.workers,
            kill_every_s: args.kill_every,
            payment_stuck_ms: PAYMENT_STUCK_MS,
            gateway_timeout_ms: GATEWAY_TIMEOUT_MS,
            payment_fence_seconds: PAYMENT_FENCE_SECONDS,
            job_interval_ms: JOB_INTERVAL_MS,
        }
    }
}

/// A server of the flood's own. [`OwnServer::stop`] it; when dropped, its processes are killed.
pub struct OwnServer {
    /// Of the API; the same after it was killed.
    pub url: String,
    pub operator_key: String,
    pub buyer_secret: String,
    pub database_url: String,
    /// `None` when nobody pays.
    pub gateway: Option<OwnGateway>,
    keep: bool,
    /// Of all the processes, about payments.
    settings: Vec<(&'static str, String)>,
    // In the order in which they end when dropped.
    processes: Vec<Process>,
    database: ScratchDatabase,
    folder: Folder,
}

/// The simulated gateway of the server.
#[derive(Debug, Clone)]
pub struct OwnGateway {
    /// The same after it was killed.
    pub url: String,
    pub key: String,
}

/// The logs, and the gateway's ledger; removed when dropped, unless it is to be kept.
struct Folder {
    path: PathBuf,
    keep: bool,
}

const GATEWAY: &str = "gateway";
const API: &str = "api";

impl OwnServer {
    /// Starts all of it; `paid`: with a gateway.
    pub async fn start(
        args: &ServerArgs,
        plan: &ServerPlan,
        paid: bool,
    ) -> anyhow::Result<OwnServer> {
        ensure!(plan.workers > 0, "a server needs at least one worker");
        let folder = Folder::create(args.keep)?;
        let database =
            ScratchDatabase::create(args.database_url.as_deref(), "stampede_flood").await?;
        let mut server = OwnServer {
            // The gateway has to know it before the API is there.
            url: format!("http://127.0.0.1:{}", free_port()?),
            operator_key: String::new(),
            buyer_secret: secret(),
            database_url: database.url.clone(),
            gateway: None,
            keep: args.keep,
            settings: Vec::new(),
            processes: Vec::new(),
            database,
            folder,
        };
        match server.start_processes(plan, paid).await {
            Ok(()) => Ok(server),
            Err(error) => {
                // The first failure is the one to report.
                let _ = server.stop().await;
                Err(error)
            }
        }
    }

    async fn start_processes(&mut self, plan: &ServerPlan, paid: bool) -> anyhow::Result<()> {
        if paid {
            self.start_gateway(plan).await?;
        }
        let launcher = self.launcher();
        launcher.run(&["migrate"]).await?;
        let key = launcher
            .run(&["api-key", "--role", "admin", "--name", "flood"])
            .await?;
        self.operator_key = key.trim().to_owned();
        let api = self.start_process(API).await?;
        self.processes.push(api);
        for number in 1..=plan.workers {
            let worker = self.start_process(&format!("worker-{number}")).await?;
            self.processes.push(worker);
        }
        Ok(())
    }

    /// Starts the gateway first, and lets the others know it.
    async fn start_gateway(&mut self, plan: &ServerPlan) -> anyhow::Result<()> {
        let (key, callback_secret) = (secret(), secret());
        self.settings = vec![
            ("STAMPEDE_SIMULATED_SECRET_KEY", key.clone()),
            (
                "STAMPEDE_SIMULATED_CALLBACK_SECRET",
                callback_secret.clone(),
            ),
            (
                "STAMPEDE_SIMULATED_CALLBACK_URL",
                format!("{}/v1/payment-callbacks/simulated", self.url),
            ),
        ];
        self.gateway = Some(OwnGateway {
            url: "http://127.0.0.1:0".to_owned(),
            key: key.clone(),
        });
        let gateway = self.start_process(GATEWAY).await?;
        self.processes.push(gateway);
        let url = self.gateway.as_ref().map(|gateway| gateway.url.clone());
        let numbers = [
            ("STAMPEDE_PAYMENT_STUCK_MS", plan.payment_stuck_ms),
            ("STAMPEDE_GATEWAY_TIMEOUT_MS", plan.gateway_timeout_ms),
            ("STAMPEDE_PAYMENT_FENCE_SECONDS", plan.payment_fence_seconds),
            ("STAMPEDE_JOB_INTERVAL_MS", plan.job_interval_ms),
        ];
        self.settings.extend([
            ("STAMPEDE_GATEWAY", "simulated".to_owned()),
            ("STAMPEDE_GATEWAY_URL", url.unwrap_or_default()),
            ("STAMPEDE_GATEWAY_KEY", key),
            ("STAMPEDE_GATEWAY_CALLBACK_SECRETS", callback_secret),
        ]);
        let numbers = numbers.map(|(name, number)| (name, number.to_string()));
        self.settings.extend(numbers);
        Ok(())
    }

    async fn start_process(&mut self, name: &str) -> anyhow::Result<Process> {
        if let Some(gateway) = self.gateway.as_ref().filter(|_| name == GATEWAY) {
            let address = gateway.url.trim_start_matches("http://");
            let ledger = self.folder.path.join("ledger.ndjson");
            let ledger = ledger.to_str().context("the folder's name is not text")?;
            let arguments = ["gateway", "--gateway-listen", address, "--ledger", ledger];
            let launcher = self.launcher();
            let (process, url) = launcher.start(name, &arguments, "listening on ").await?;
            if let Some(gateway) = &mut self.gateway {
                gateway.url = url;
            }
            return Ok(process);
        }
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
            settings: &self.settings,
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

/// A port at which nobody listens, as far as anyone can know.
fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("looking for a free port")?;
    Ok(listener.local_addr()?.port())
}

fn secret() -> String {
    let mut dice = rand::rng();
    (0..4)
        .map(|_| format!("{:016x}", dice.random::<u64>()))
        .collect()
}
