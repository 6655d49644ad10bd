//! The data of a server: where it lies, how it is created, who may still be using it.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{ErrorKind, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use sha2::{Digest, Sha256};

use crate::{Durability, account::Account, binaries::Binaries, server::send_signal};

/// How long a server whose starter has just died may take to end.
const LEFTOVER_PATIENCE: Duration = Duration::from_secs(15);

/// A cluster in the sense of Postgres: one data directory.
#[derive(Debug, Clone)]
pub struct Cluster {
    pub account: Account,
    /// The data directory.
    pub data: PathBuf,
    /// What the server says.
    pub log: PathBuf,
    /// The superuser's. The port is open to every account of this machine, and a superuser of
    /// Postgres can run programs, so loopback alone is not enough.
    pub password: String,
    password_file: PathBuf,
}

impl Cluster {
    /// The cluster that belongs to `folder`, which exists. It lies there, or below /var/tmp if the
    /// server's account cannot enter that folder.
    pub fn below(folder: &Path, account: Account) -> anyhow::Result<Cluster> {
        let folder = fs::canonicalize(folder)
            .with_context(|| format!("looking for {}", folder.display()))?;
        let home = match account.user() {
            Some(user) if !account.reaches(&folder) => home_elsewhere(&folder, account, user)?,
            _ => folder,
        };
        let data = home.join("postgres");
        let password_file = home.join("postgres.password");
        let password = password(&password_file, data.exists(), account)?;
        let log = home.join("postgres.log");
        Ok(Cluster {
            account,
            data,
            log,
            password,
            password_file,
        })
    }

    /// The major version that wrote the data, if there is any.
    pub fn major(&self) -> anyhow::Result<Option<u32>> {
        match fs::read_to_string(self.data.join("PG_VERSION")) {
            Ok(version) => Ok(Some(version.trim().parse().context("reading PG_VERSION")?)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => {
                Err(error).with_context(|| format!("reading the data in {}", self.data.display()))
            }
        }
    }

    /// Runs `initdb` once. It works in a folder of its own that is renamed when it is done, so that
    /// half a cluster never has the final name.
    pub fn create_if_missing(
        &self,
        binaries: &Binaries,
        durability: Durability,
    ) -> anyhow::Result<()> {
        if self.major()?.is_some() {
            return Ok(());
        }
        let unfinished = self.data.with_extension("new");
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished)?;
        }
        fs::DirBuilder::new().mode(0o700).create(&unfinished)?;
        self.account.own(&unfinished)?;

        let mut initdb = self.account.command(binaries.program("initdb"));
        initdb
            .arg("--pgdata")
            .arg(&unfinished)
            .arg("--pwfile")
            .arg(&self.password_file);
        initdb.args(["--username=postgres", "--auth=scram-sha-256"]);
        initdb.args(["--encoding=UTF8", "--locale=C", "--no-instructions"]);
        if durability == Durability::ProcessOnly {
            initdb.arg("--no-sync");
        }
        let output = initdb.output().context("running initdb")?;
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            let last = errors
                .lines()
                .rev()
                .find(|line| line.contains("error"))
                .unwrap_or("");
            bail!("initdb in {} failed: {last}", unfinished.display());
        }
        fs::rename(&unfinished, &self.data)?;
        Ok(())
    }

    /// Ends a server that a killed process left behind. The caller has the lock of the folder, so
    /// nobody owns that server any more.
    pub async fn end_leftover_server(&self) -> anyhow::Result<()> {
        let pid_file = self.data.join("postmaster.pid");
        let Some(pid) = self
            .postmaster_file()
            .and_then(|lines| lines.first()?.parse().ok())
        else {
            return Ok(());
        };
        let started = Instant::now();
        let mut told = false;
        while process_works_in(pid, &self.data) {
            if !told {
                send_signal(pid, "INT");
                told = true;
            }
            if started.elapsed() > LEFTOVER_PATIENCE {
                bail!(
                    "process {pid} still uses the data in {}; end it first",
                    self.data.display()
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // The number may be another program's by now; Postgres would take that for itself and
        // refuse to start.
        match fs::remove_file(&pid_file) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", pid_file.display()))
            }
            _ => Ok(()),
        }
    }

    /// The lines of `postmaster.pid`: the process first, its readiness in line 8.
    pub fn postmaster_file(&self) -> Option<Vec<String>> {
        let text = fs::read_to_string(self.data.join("postmaster.pid")).ok()?;
        Some(text.lines().map(|line| line.trim().to_owned()).collect())
    }
}

/// A folder of the account's own, named by the one that it stands for. Anybody may create files in
/// /var/tmp, so one that is there already has to be the account's.
fn home_elsewhere(folder: &Path, account: Account, user: u32) -> anyhow::Result<PathBuf> {
    let hash = Sha256::digest(folder.as_os_str().as_encoded_bytes());
    let hash: String = hash
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let home = PathBuf::from(format!("/var/tmp/stampede-{hash}"));
    match fs::DirBuilder::new().mode(0o700).create(&home) {
        Ok(()) => account.own(&home)?,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error).with_context(|| format!("creating {}", home.display())),
    }
    let found = fs::symlink_metadata(&home)?;
    if !found.is_dir() || found.uid() != user {
        bail!("{} belongs to somebody else", home.display());
    }
    Ok(home)
}

/// The password in the file, which only the account can read. Made up if there is no data yet.
fn password(file: &Path, data_exists: bool, account: Account) -> anyhow::Result<String> {
    match fs::read_to_string(file) {
        Ok(password) if !password.trim().is_empty() => return Ok(password.trim().to_owned()),
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("reading {}", file.display()));
        }
        _ if data_exists => bail!(
            "the password of the database is gone from {}",
            file.display()
        ),
        _ => {}
    }
    let mut random = [0_u8; 24];
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    let password: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut written = options
        .open(file)
        .with_context(|| format!("creating {}", file.display()))?;
    written.set_permissions(Permissions::from_mode(0o600))?;
    writeln!(written, "{password}")?;
    account.own(file)?;
    Ok(password)
}

/// Whether this process is a server of that data directory: Postgres works in its data directory.
fn process_works_in(pid: u32, data: &Path) -> bool {
    if Path::new("/proc/self").exists() {
        return fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|folder| folder == data);
    }
    let mut ps = std::process::Command::new("ps");
    let output = ps.args(["-o", "comm=", "-p", &pid.to_string()]).output();
    output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("postgres"))
}
