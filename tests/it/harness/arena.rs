//! A test's own database, and the processes that work on it.

use std::time::Duration;

use chrono::Utc;
use sha2::{Digest, Sha256};
use sqlx::{PgPool, postgres::PgPoolOptions};
use stampede_shared::store::api_keys::{self, ApiKey};
use tokio::runtime::Builder;
use uuid::Uuid;

use super::{
    BUYER_SECRET,
    client::Api,
    cluster::Cluster,
    eventually, invariants,
    process::{Process, binary},
};

/// How long what a test left in the queue may take to be decided.
const DRAIN_LIMIT: Duration = Duration::from_secs(60);

/// The server of a test: that of all tests, or one that it may crash.
enum Server {
    Shared(&'static Cluster),
    Own(Box<Cluster>),
}

/// What a test is given.
pub struct Arena {
    server: Server,
    database: String,
    /// For looking into the database.
    pub pool: PgPool,
    operator_key: String,
}

/// Runs a test in an arena of its own.
pub fn run(test: impl AsyncFnOnce(&Arena)) {
    in_runtime(async {
        let cluster = Cluster::shared().await;
        run_in(Server::Shared(cluster), test).await;
    });
}

/// The same with a Postgres of its own, for a test that crashes it.
pub fn run_with_own_postgres(test: impl AsyncFnOnce(&Arena)) {
    in_runtime(async {
        let cluster = Cluster::own().await;
        run_in(Server::Own(Box::new(cluster)), test).await;
    });
}

fn in_runtime(test: impl Future<Output = ()>) {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.expect("starting a runtime").block_on(test);
}

async fn run_in(server: Server, test: impl AsyncFnOnce(&Arena)) {
    let arena = Arena::new(server).await;
    test(&arena).await;
    arena.finish().await;
}

impl Arena {
    async fn new(server: Server) -> Arena {
        let database = server.cluster().create_database().await;
        let pool = PgPoolOptions::new()
            .max_connections(4)
            .connect_lazy(&server.cluster().url_of(&database))
            .expect("the URL of the test's database");
        let operator_key = format!("sk_{}", Uuid::now_v7().simple());
        let stored = ApiKey {
            api_key_id: Uuid::now_v7(),
            name: "test".to_owned(),
            role: "admin".to_owned(),
            created_at: Utc::now(),
            revoked_at: None,
        };
        let hash = Sha256::digest(&operator_key).into();
        api_keys::create(&pool, &stored, &hash)
            .await
            .expect("storing the operator's key");
        Arena {
            server,
            database,
            pool,
            operator_key,
        }
    }

    pub fn database_url(&self) -> String {
        self.server.cluster().url_of(&self.database)
    }

    /// Starts `stampede api` on a free port, without rate limits unless `arguments` set them.
    pub async fn api(&self, arguments: &[&str]) -> (Process, Api) {
        self.api_on("127.0.0.1:0", arguments).await
    }

    /// The same at an address, such as that of one which was killed.
    pub async fn api_on(&self, address: &str, arguments: &[&str]) -> (Process, Api) {
        self.api_failing_on(address, "", arguments).await
    }

    /// The same with failpoints set, such as `before_capture=return`.
    pub async fn api_failing_on(
        &self,
        address: &str,
        failpoints: &str,
        arguments: &[&str],
    ) -> (Process, Api) {
        let mut command = binary();
        command
            .env("DATABASE_URL", self.database_url())
            .env("FAILPOINTS", failpoints);
        command
            .env("STAMPEDE_BUYER_SECRET", BUYER_SECRET)
            .env("STAMPEDE_LISTEN", address);
        for limit in ["BUYER", "ADDRESS", "SHOW"] {
            command.env(format!("STAMPEDE_RATE_{limit}"), "off");
        }
        let mut process = Process::spawn("api", command.arg("api").args(arguments));
        let url = process.said("listening on ").await;
        (process, Api::new(&url, &self.operator_key))
    }

    /// Starts `stampede worker`.
    pub async fn worker(&self, arguments: &[&str]) -> Process {
        self.worker_failing("", arguments).await
    }

    /// The same with failpoints set, such as `decide_request=panic`.
    pub async fn worker_failing(&self, failpoints: &str, arguments: &[&str]) -> Process {
        let mut process = self.dying_worker(failpoints, arguments);
        process.said("working").await;
        process
    }

    /// The same, not waited for: it may be over before it says that it works.
    pub fn dying_worker(&self, failpoints: &str, arguments: &[&str]) -> Process {
        let mut command = binary();
        command
            .env("DATABASE_URL", self.database_url())
            .env("FAILPOINTS", failpoints);
        Process::spawn("worker", command.arg("worker").args(arguments))
    }

    /// Crashes the Postgres of this test and starts it again; only with
    /// [`run_with_own_postgres`].
    pub async fn crash_postgres(&self) {
        match &self.server {
            Server::Shared(_) => panic!("other tests use this Postgres"),
            Server::Own(cluster) => cluster.crash_and_restart().await,
        }
    }

    /// Decides what is left, checks the invariants, drops the database. The test's processes ended
    /// with it.
    async fn finish(self) {
        if invariants::work_left(&self.pool).await > 0 {
            let mut worker = self.worker(&[]).await;
            eventually(DRAIN_LIMIT, async || {
                invariants::work_left(&self.pool).await == 0
            })
            .await;
            worker.stop().await;
        }
        let breaches = invariants::breaches(&self.pool).await;
        assert!(
            breaches.is_empty(),
            "the test broke invariants:\n{}",
            breaches.join("\n")
        );
        self.pool.close().await;
        let cluster = self.server.cluster();
        cluster.drop_database(&self.database).await;
        if let Server::Own(cluster) = &self.server {
            cluster.stop().await;
        }
    }
}

impl Server {
    fn cluster(&self) -> &Cluster {
        match self {
            Server::Shared(cluster) => cluster,
            Server::Own(cluster) => cluster,
        }
    }
}
