//! As whom the server runs: `postgres` and `initdb` refuse to run as root.

use std::{
    os::unix::{fs::chown, process::CommandExt},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, bail};

/// The account that runs the server and owns its data.
#[derive(Debug, Clone, Copy)]
pub struct Account {
    /// User and group to become; `None` to stay who we are.
    become_ids: Option<(u32, u32)>,
}

impl Account {
    /// Ourselves; for root, who called sudo, else `postgres`, else `nobody`.
    pub fn pick() -> anyhow::Result<Account> {
        if id(&["-u"]).context("asking `id` who we are")? != 0 {
            return Ok(Account { become_ids: None });
        }
        let ids = sudo_ids()
            .or_else(|| ids_of("postgres"))
            .or_else(|| ids_of("nobody"));
        match ids {
            Some(ids) => Ok(Account {
                become_ids: Some(ids),
            }),
            None => bail!(
                "Postgres does not run as root, and there is no user `postgres` or `nobody` to run \
                 it as; start as another user, or set DATABASE_URL"
            ),
        }
    }

    /// A command that runs as this account, in a folder that every account can enter, and without
    /// the settings that somebody made for another Postgres.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command.current_dir("/").env("LC_ALL", "C").env("TZ", "UTC");
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"PG") {
                command.env_remove(name);
            }
        }
        if let Some((user, group)) = self.become_ids {
            command.uid(user).gid(group);
        }
        command
    }

    /// Whether this account may enter the folder, or run the file.
    pub fn reaches(&self, path: &Path) -> bool {
        let mut command = self.command("sh");
        command.args(["-c", "test -x \"$1\"", "sh"]).arg(path);
        command
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }

    /// Gives a file or folder to this account.
    pub fn own(&self, path: &Path) -> anyhow::Result<()> {
        if let Some((user, group)) = self.become_ids {
            chown(path, Some(user), Some(group))
                .with_context(|| format!("giving {} to user {user}", path.display()))?;
        }
        Ok(())
    }

    /// The user to become.
    pub fn user(&self) -> Option<u32> {
        self.become_ids.map(|(user, _)| user)
    }
}

fn sudo_ids() -> Option<(u32, u32)> {
    let number = |name| std::env::var(name).ok()?.parse().ok();
    let ids: (u32, u32) = (number("SUDO_UID")?, number("SUDO_GID")?);
    (ids.0 != 0).then_some(ids)
}

fn ids_of(user: &str) -> Option<(u32, u32)> {
    Some((id(&["-u", user]).ok()?, id(&["-g", user]).ok()?))
}

fn id(arguments: &[&str]) -> anyhow::Result<u32> {
    let output = Command::new("id").args(arguments).output()?;
    Ok(str::from_utf8(&output.stdout)?.trim().parse()?)
}
