//! The Postgres of the test run: started once, with a template that every test's database is a copy of.

use std::path::Path;

use sha2::{Digest, Sha256};
use sqlx::{Connection, Executor, PgConnection, PgPool};
use stampede_devdb::{Durability, Postgres};
use stampede_shared::store::database::MIGRATIONS;
use tokio::sync::{Mutex, OnceCell};
use uuid::Uuid;

/// More test runs at once than anybody starts.
const SLOTS: usize = 16;

/// A server and the name of its template. It holds no connection: each test has a runtime of its own.
pub struct Cluster {
    postgres: Mutex<Option<Postgres>>,
    admin_url: String,
    template: String,
    major: u32,
}

impl Cluster {
    /// The one of this test run. Nothing stops it but the end of this process.
    pub async fn shared() -> &'static Cluster {
        static SHARED: OnceCell<Cluster> = OnceCell::const_new();
        SHARED.get_or_init(|| Cluster::start("shared")).await
    }

    /// One for a test that crashes it.
    pub async fn own() -> Cluster {
        Cluster::start("own").await
    }

    async fn start(kind: &str) -> Cluster {
        let postgres = start_in_free_slot(kind).await;
        let admin_url = postgres.url("postgres");
        let template = format!("template_{}", hash_of_migrations());
        let major = postgres.major();
        let cluster = Cluster {
            postgres: Mutex::new(Some(postgres)),
            admin_url,
            template,
            major,
        };
        cluster
            .prepare()
            .await
            .expect("preparing the databases of the tests");
        cluster
    }

    /// Drops what earlier runs left, and creates the template if this is the first with these
    /// migrations.
    async fn prepare(&self) -> anyhow::Result<()> {
        let mut admin = self.admin().await?;
        let databases: Vec<String> = sqlx::query_scalar("select datname::text from pg_database")
            .fetch_all(&mut admin)
            .await?;
        let ours = ["test_", "template_", "unfinished_"];
        for name in databases
            .iter()
            .filter(|name| ours.iter().any(|our| name.starts_with(our)))
        {
            if *name != self.template {
                drop_database(&mut admin, name).await?;
            }
        }
        if databases.contains(&self.template) {
            return Ok(());
        }
        let unfinished = format!("unfinished_{}", Uuid::now_v7().simple());
        execute(&mut admin, format!("create database {unfinished}")).await?;
        let mut connection = PgConnection::connect(&self.url_of(&unfinished)).await?;
        MIGRATIONS.run(&mut connection).await?;
        connection.close().await?;
        let pool = PgPool::connect(&self.url_of(&unfinished)).await?;
        stampede_worker::set_up_jobs(&pool).await?;
        pool.close().await;
        execute(
            &mut admin,
            format!("alter database {unfinished} rename to {}", self.template),
        )
        .await
    }

    /// A new, migrated database; its name.
    pub async fn create_database(&self) -> String {
        let name = format!("test_{}", Uuid::now_v7().simple());
        // Copying files takes 40 ms, the default of 15 and newer logs every page.
        let strategy = if self.major >= 15 {
            " strategy file_copy"
        } else {
            ""
        };
        let statement = format!(
            "create database {name} template {}{strategy}",
            self.template
        );
        let mut admin = self
            .admin()
            .await
            .expect("connecting to the Postgres of the tests");
        execute(&mut admin, statement)
            .await
            .expect("creating a database");
        name
    }

    pub async fn drop_database(&self, name: &str) {
        let mut admin = self
            .admin()
            .await
            .expect("connecting to the Postgres of the tests");
        drop_database(&mut admin, name)
            .await
            .expect("dropping a database");
    }

    pub fn url_of(&self, database: &str) -> String {
        let (server, _) = self
            .admin_url
            .rsplit_once('/')
            .expect("a database URL has a name");
        format!("{server}/{database}")
    }

    /// Every connection breaks, and the server recovers from its log, on the same port.
    pub async fn crash_and_restart(&self) {
        let mut postgres = self.postgres.lock().await;
        let running = postgres.take().expect("Postgres runs");
        *postgres = Some(
            running
                .crash_and_restart()
                .await
                .expect("restarting Postgres"),
        );
    }

    pub async fn stop(&self) {
        if let Some(postgres) = self.postgres.lock().await.take() {
            postgres.stop().await.expect("stopping Postgres");
        }
    }

    async fn admin(&self) -> sqlx::Result<PgConnection> {
        PgConnection::connect(&self.admin_url).await
    }
}

/// The data is kept from run to run, for initdb takes seconds; runs at the same time get one each.
async fn start_in_free_slot(kind: &str) -> Postgres {
    for slot in 0..SLOTS {
        let name = format!("postgres-{kind}-{slot}");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        match Postgres::start(&folder, Durability::ProcessOnly).await {
            Ok(postgres) => return postgres,
            Err(error) if error.to_string().contains("another process") => {}
            Err(error) => panic!("starting the Postgres of the tests: {error:#}"),
        }
    }
    panic!("{SLOTS} test runs are going on already");
}

fn hash_of_migrations() -> String {
    let mut hasher = Sha256::new();
    let jobs = stampede_worker::job_migrations();
    for migration in MIGRATIONS.iter().chain(jobs.iter()) {
        hasher.update(migration.version.to_be_bytes());
        hasher.update(&migration.checksum);
    }
    hasher
        .finalize()
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

async fn drop_database(admin: &mut PgConnection, name: &str) -> anyhow::Result<()> {
    execute(
        admin,
        format!("drop database if exists {name} with (force)"),
    )
    .await
}

/// These statements take names, not parameters; every name is made here.
async fn execute(admin: &mut PgConnection, statement: String) -> anyhow::Result<()> {
    admin.execute(sqlx::AssertSqlSafe(statement)).await?;
    Ok(())
}
