//! How processes reach the database: settings, pools, transactions, migrations.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use sqlx::{
    Connection, PgConnection, PgPool, Postgres, Transaction,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions},
};

/// The tables, compiled in.
pub static MIGRATIONS: Migrator = sqlx::migrate!("../migrations");

/// The oldest server that is known to work, as `server_version_num` has it.
pub const SERVER_VERSION_MIN: i32 = 140_000;

/// How long a pool waits for a free connection before the caller is told that the database is away.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// What every writing transaction begins with, in one round trip. The timeouts end the session of a
/// process that froze while it held a row lock. `force_generic_plan` saves 23-41 % on `= any($1)`;
/// without sequential scans no plan can be cached that was made for an empty table.
const BEGIN: &str = "begin; \
    set local statement_timeout = '3s'; \
    set local lock_timeout = '3s'; \
    set local idle_in_transaction_session_timeout = '3s'; \
    set local plan_cache_mode = force_generic_plan; \
    set local enable_seqscan = off; \
    set local jit = off";

/// Where the database is.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Database")]
pub struct DatabaseSettings {
    /// The database, such as postgres://user:password@host/name
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database_url: String,

    /// The database for LISTEN, past any transaction pooler [default: the database URL]
    #[arg(
        long,
        env = "STAMPEDE_LISTEN_DATABASE_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub listen_database_url: Option<String>,
}

/// A pool for one process, and the way to its notifications.
#[derive(Debug, Clone)]
pub struct Database {
    pub pool: PgPool,
    options: PgConnectOptions,
    listen_options: PgConnectOptions,
}

impl Database {
    /// Connects once to see that the database is there and new enough, then lends at most
    /// `connections_max` connections. `name` is shown in `pg_stat_activity`.
    pub async fn connect(
        settings: &DatabaseSettings,
        connections_max: u32,
        name: &str,
    ) -> anyhow::Result<Database> {
        let options = parse_url(&settings.database_url)?.application_name(name);
        let listen_options = match &settings.listen_database_url {
            Some(url) => parse_url(url)?.application_name(name),
            None => options.clone(),
        };
        let mut connection = PgConnection::connect_with(&options)
            .await
            .context("the database cannot be reached; check DATABASE_URL")?;
        check_version(&mut connection).await?;
        connection.close().await.ok();

        let pool = PgPoolOptions::new()
            .max_connections(connections_max)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .test_before_acquire(false)
            .connect_lazy_with(options.clone());
        Ok(Database {
            pool,
            options,
            listen_options,
        })
    }

    /// A pool beside [`Database::pool`], for code of others that may drop a transaction in the middle.
    pub fn another_pool(&self, connections_max: u32) -> PgPool {
        PgPoolOptions::new()
            .max_connections(connections_max)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_lazy_with(self.options.clone())
    }

    /// Begins a writing transaction with its timeouts.
    ///
    /// Only for tasks that no client can drop: a dropped `begin` leaves its transaction open in a
    /// connection that goes back to the pool, and the next borrower's writes vanish with it.
    pub async fn begin(&self) -> sqlx::Result<Transaction<'static, Postgres>> {
        let started = Instant::now();
        let tx = self.pool.begin_with(BEGIN).await;
        // Mostly the wait for a free connection; the BEGIN itself is one round trip.
        metrics::histogram!("stampede_pool_wait_seconds").record(started.elapsed().as_secs_f64());
        tx
    }

    /// A connection of its own that hears `channel`. It reconnects by itself; what was said
    /// meanwhile is lost.
    pub async fn listen(&self, channel: &str) -> sqlx::Result<PgListener> {
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .max_lifetime(None)
            .idle_timeout(None)
            // Nobody takes it again: close it without asking a server that may be gone.
            .after_release(|_, _| Box::pin(async { Ok(false) }))
            .connect_lazy_with(self.listen_options.clone());
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.listen(channel).await?;
        Ok(listener)
    }

    /// Applies the migrations that are missing.
    pub async fn migrate(&self) -> anyhow::Result<()> {
        MIGRATIONS
            .run(&self.pool)
            .await
            .context("migrating the database")
    }

    /// Fails with what to do if the database lacks a migration.
    pub async fn check_migrated(&self) -> anyhow::Result<()> {
        let applied = applied_migrations(&self.pool).await?;
        let newest = MIGRATIONS
            .iter()
            .map(|migration| migration.version)
            .max()
            .unwrap_or(0);
        if applied < newest {
            bail!("the database lacks migrations; run `stampede migrate`");
        }
        Ok(())
    }
}

fn parse_url(url: &str) -> anyhow::Result<PgConnectOptions> {
    url.parse()
        .context("the database URL is not of the form postgres://user:password@host/name")
}

async fn check_version(connection: &mut PgConnection) -> anyhow::Result<()> {
    let version = server_version(connection).await?;
    if version < SERVER_VERSION_MIN {
        bail!(
            "PostgreSQL {} is too old; {} or newer is needed",
            version / 10_000,
            SERVER_VERSION_MIN / 10_000
        );
    }
    Ok(())
}

async fn server_version(connection: &mut PgConnection) -> anyhow::Result<i32> {
    let version = sqlx::query_scalar!(
        r#"select current_setting('server_version_num')::integer as "version!""#
    )
    .fetch_one(connection)
    .await?;
    Ok(version)
}

/// The newest applied migration, 0 when there is none yet. Not a checked macro: the table is the
/// migrator's own.
async fn applied_migrations(pool: &PgPool) -> anyhow::Result<i64> {
    let newest = sqlx::query_scalar::<_, i64>(
        "select coalesce(max(version), 0) from _sqlx_migrations where success",
    )
    .fetch_one(pool)
    .await;
    match newest {
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42P01") => Ok(0),
        newest => newest.context("reading the applied migrations"),
    }
}
