//! The embedded Postgres: finds or fetches it, drops root, starts and stops it.
//!
//! It promises that one folder has one server at a time, that the server ends when this process
//! ends, however it ends, and that Ctrl-C on the terminal does not reach the server: whoever started
//! it drains first and then calls [`Postgres::stop`].

mod account;
mod binaries;
mod cluster;
mod server;

use std::{
    fs::{File, TryLockError},
    net::TcpListener,
    path::Path,
    time::Duration,
};

use anyhow::{Context, bail};

use crate::{account::Account, binaries::Binaries, cluster::Cluster, server::Server};

/// How often, and how far apart, the lock of a folder is tried.
const LOCK_ATTEMPTS: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(25);

/// How often a start is tried when another program takes the port that was free a moment ago.
const START_ATTEMPTS: usize = 3;

/// What a server promises about its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// A commit survives a power cut.
    Durable,
    /// A commit survives a crash of any process, Postgres' own too, but not of the machine. For
    /// tests: creating a database and committing cost a fraction.
    ProcessOnly,
}

/// A running server on a free port of 127.0.0.1.
#[derive(Debug)]
pub struct Postgres {
    cluster: Cluster,
    binaries: Binaries,
    durability: Durability,
    port: u16,
    server: Server,
    /// Held as long as the server may run.
    _lock: File,
}

impl Postgres {
    /// Starts the server whose data is below `folder`, after creating both if they are not there.
    ///
    /// Fails within a second if another process has a server in that folder.
    pub async fn start(folder: &Path, durability: Durability) -> anyhow::Result<Postgres> {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("creating {}", folder.display()))?;
        let lock = lock(folder).await?;
        let account = Account::pick()?;
        let cluster = Cluster::below(folder, account)?;
        let binaries = Binaries::find(&cluster.account, cluster.major()?).await?;
        let data = cluster.data.display();
        tracing::info!("starting PostgreSQL {} on {data}", binaries.major);

        // initdb takes seconds, and the runtime may be answering somebody else.
        let (cluster, binaries) = tokio::task::spawn_blocking(move || {
            cluster.create_if_missing(&binaries, durability)?;
            anyhow::Ok((cluster, binaries))
        })
        .await??;
        cluster.end_leftover_server().await?;

        for _ in 0..START_ATTEMPTS {
            let port = free_port()?;
            if let Some(server) = Server::start(&cluster, &binaries, durability, port).await? {
                return Ok(Postgres {
                    cluster,
                    binaries,
                    durability,
                    port,
                    server,
                    _lock: lock,
                });
            }
        }
        bail!("no port of 127.0.0.1 stays free long enough for postgres to take it")
    }

    /// Where a database of this server is, with the superuser's password in it.
    pub fn url(&self, database: &str) -> String {
        let password = &self.cluster.password;
        format!(
            "postgres://postgres:{password}@127.0.0.1:{}/{database}",
            self.port
        )
    }

    /// The major version of the server.
    pub fn major(&self) -> u32 {
        self.binaries.major
    }

    /// The folder with the data, which is not below the one given to [`Postgres::start`] if the
    /// server's account cannot reach that.
    pub fn data(&self) -> &Path {
        &self.cluster.data
    }

    /// Ends the server: what is committed is kept, connections are cut.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.server.stop("INT").await
    }

    /// Crashes the server and starts it again on the same port: connections break without a word,
    /// and the next start recovers from the log.
    pub async fn crash_and_restart(self) -> anyhow::Result<Postgres> {
        let Postgres {
            cluster,
            binaries,
            durability,
            port,
            server,
            _lock,
        } = self;
        server.stop("QUIT").await?;
        let server = Server::start(&cluster, &binaries, durability, port).await?;
        let server = server.context("another program took the port of postgres")?;
        Ok(Postgres {
            cluster,
            binaries,
            durability,
            port,
            server,
            _lock,
        })
    }
}

/// The operating system lets go of the lock when this process ends, however it ends.
///
/// A process that somebody is just starting has a copy of all open files for a moment, and with it the
/// lock that its parent gave back: so one that is taken is tried again for a while.
async fn lock(folder: &Path) -> anyhow::Result<File> {
    let path = folder.join("lock");
    let file =
        File::create(&path).with_context(|| format!("creating the lock {}", path.display()))?;
    for _ in 0..LOCK_ATTEMPTS {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCK_PAUSE).await,
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("locking {}", path.display()));
            }
        }
    }
    bail!("another process runs the database in {}", folder.display())
}

fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("looking for a free port")?;
    Ok(listener.local_addr()?.port())
}
