//! A database for one run of a load test or a benchmark: new, durable, and gone afterwards.

use std::path::PathBuf;

use anyhow::{Context, Result};
use sqlx::{
    ConnectOptions, Postgres as PostgresDatabase, migrate::MigrateDatabase,
    postgres::PgConnectOptions,
};
use stampede_devdb::{Durability, Postgres};

/// An empty database, on an embedded server of its own or beside a given one.
///
/// [`ScratchDatabase::remove`] it. When dropped, only what an embedded server left on the disk goes.
#[derive(Debug)]
pub struct ScratchDatabase {
    pub url: String,
    server: Option<Postgres>,
    /// Of an embedded server; removed when dropped.
    folder: Option<PathBuf>,
}

impl ScratchDatabase {
    /// Creates `<name>_<process id>` on the server of `url`, or on a server of its own.
    pub async fn create(url: Option<&str>, name: &str) -> Result<ScratchDatabase> {
        let name = format!("{name}_{}", std::process::id());
        match url {
            Some(url) => {
                let options: PgConnectOptions =
                    url.parse().context("the database URL is malformed")?;
                let url = options.database(&name).to_url_lossy().to_string();
                create(&url).await?;
                Ok(ScratchDatabase {
                    url,
                    server: None,
                    folder: None,
                })
            }
            None => {
                let folder = std::env::temp_dir().join(&name);
                // From here on, the folder goes however this ends.
                let mut database = ScratchDatabase {
                    url: String::new(),
                    server: None,
                    folder: Some(folder.clone()),
                };
                let server = Postgres::start(&folder, Durability::Durable).await?;
                database.url = server.url(&name);
                database.server = Some(server);
                create(&database.url).await?;
                Ok(database)
            }
        }
    }

    /// Ends the server of its own, if it has one, as a power cut would, and starts it again.
    pub async fn crash_and_restart(&mut self) -> Result<()> {
        if let Some(server) = self.server.take() {
            self.server = Some(server.crash_and_restart().await?);
        }
        Ok(())
    }

    /// Removes the database, with its server if that is its own.
    pub async fn remove(mut self) -> Result<()> {
        let Some(server) = self.server.take() else {
            return PostgresDatabase::force_drop_database(&self.url)
                .await
                .context("dropping the database of this run");
        };
        let data = server.data().to_owned();
        server.stop().await?;
        // What cannot be removed from a temporary folder is the system's to remove.
        std::fs::remove_dir_all(data).ok();
        Ok(())
    }

    /// Leaves everything for a look, and says where it is.
    pub async fn keep(mut self) -> Result<String> {
        let Some(server) = self.server.take() else {
            return Ok(self.url.clone());
        };
        self.folder = None;
        let data = server.data().display().to_string();
        server.stop().await?;
        Ok(data)
    }
}

impl Drop for ScratchDatabase {
    fn drop(&mut self) {
        if let Some(folder) = &self.folder {
            // The server ends with this process at the latest.
            drop(self.server.take());
            std::fs::remove_dir_all(folder).ok();
        }
    }
}

async fn create(url: &str) -> Result<()> {
    PostgresDatabase::create_database(url)
        .await
        .context("creating a database; check DATABASE_URL")
}
