//! Operators' API keys: made here, shown once, stored as a hash.

use anyhow::Context;
use sha2::{Digest, Sha256};
use stampede_api::{Role, create_api_key};
use stampede_shared::store::{Database, DatabaseSettings, api_keys};

#[derive(Debug, clap::Args)]
pub struct Settings {
    #[command(flatten)]
    database: DatabaseSettings,

    /// What the key allows: viewers read, operators run shows, admins also manage keys
    #[arg(long, value_parser = ["viewer", "operator", "admin"])]
    role: String,

    /// What the key is for
    #[arg(long)]
    name: String,
}

/// Creates a key and prints it, alone on its line.
pub async fn run(settings: &Settings) -> anyhow::Result<()> {
    let database = Database::connect(&settings.database, 1, "stampede api-key").await?;
    database.check_migrated().await?;
    println!(
        "{}",
        create(&database, &settings.role, &settings.name).await?
    );
    Ok(())
}

/// Creates a key and returns it.
pub async fn create(database: &Database, role: &str, name: &str) -> anyhow::Result<String> {
    let role = Role::parse(role).with_context(|| format!("{role} is no role"))?;
    let (_, key) = create_api_key(database.pool.clone(), name.to_owned(), role)
        .await
        .context("storing the API key")?;
    Ok(key)
}

/// Whether the database knows the key and it was not revoked.
pub async fn works(database: &Database, key: &str) -> anyhow::Result<bool> {
    let hash = Sha256::digest(key).into();
    let role = api_keys::find_role(&database.pool, &hash).await;
    Ok(role.context("looking for the API key")?.is_some())
}
