//! What has to outlive a restart: secrets and the operator's key, for our eyes only.

use std::{
    fs::{self, OpenOptions, Permissions},
    io::{ErrorKind, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::Context;
use rand::RngCore;
use secrecy::{ExposeSecret, SecretString};
use stampede_shared::store::Database;

use crate::api_key;

#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// The folder, created if it is not there.
    pub fn open(path: &Path) -> anyhow::Result<Folder> {
        fs::create_dir_all(path).with_context(|| format!("creating {}", path.display()))?;
        // What is in here belongs into no repository.
        fs::write(path.join(".gitignore"), "*\n")
            .with_context(|| format!("writing to {}", path.display()))?;
        Ok(Folder {
            path: path.to_owned(),
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A secret of that name, made up once.
    pub fn secret(&self, name: &str) -> anyhow::Result<SecretString> {
        let kept = self.read(name)?;
        if let Some(secret) = kept.filter(|secret| secret.expose_secret().len() >= 32) {
            return Ok(secret);
        }
        let mut random = [0_u8; 32];
        rand::rng().fill_bytes(&mut random);
        let secret: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        self.write(name, &secret)?;
        Ok(SecretString::from(secret))
    }

    /// An admin's API key that works in this database.
    pub async fn operator_key(&self, database: &Database) -> anyhow::Result<SecretString> {
        if let Some(key) = self.read("operator-key")?
            && api_key::works(database, key.expose_secret()).await?
        {
            return Ok(key);
        }
        let key = api_key::create(database, "admin", "dev").await?;
        self.write("operator-key", &key)?;
        Ok(SecretString::from(key))
    }

    fn read(&self, name: &str) -> anyhow::Result<Option<SecretString>> {
        let path = self.path.join(name);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(SecretString::from(text.trim()))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.path.join(name);
        let write = || {
            let mut options = OpenOptions::new();
            let mut file = options
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&path)?;
            file.set_permissions(Permissions::from_mode(0o600))?;
            writeln!(file, "{text}")
        };
        write().with_context(|| format!("writing {}", path.display()))
    }
}
