//! A real server in a folder of its own.

#![expect(clippy::unwrap_used, reason = "a test says where it failed")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use sqlx::{Connection, PgConnection};
use stampede_devdb::{Durability, Postgres};

fn empty_folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::remove_dir_all(&folder).ok();
    folder
}

async fn connect(postgres: &Postgres) -> PgConnection {
    PgConnection::connect(&postgres.url("postgres"))
        .await
        .unwrap()
}

async fn count(postgres: &Postgres) -> i64 {
    let mut connection = connect(postgres).await;
    sqlx::query_scalar("select count(*) from kept")
        .fetch_one(&mut connection)
        .await
        .unwrap()
}

#[tokio::test]
async fn what_is_committed_survives_stops_crashes_and_leftover_pid_files() {
    let folder = empty_folder("embedded-data");
    let postgres = Postgres::start(&folder, Durability::ProcessOnly)
        .await
        .unwrap();
    let mut connection = connect(&postgres).await;
    sqlx::query("create table kept (id integer)")
        .execute(&mut connection)
        .await
        .unwrap();
    sqlx::query("insert into kept values (1)")
        .execute(&mut connection)
        .await
        .unwrap();

    let url = postgres.url("postgres");
    let postgres = postgres.crash_and_restart().await.unwrap();
    assert_eq!(postgres.url("postgres"), url);
    assert_eq!(count(&postgres).await, 1);

    let pid_file = postgres.data().join("postmaster.pid");
    let lines = fs::read_to_string(&pid_file).unwrap();
    postgres.stop().await.unwrap();
    assert!(!pid_file.exists());

    // A number that another process has by now, as after a reboot.
    let rest = lines.split_once('\n').unwrap().1;
    fs::write(&pid_file, format!("{}\n{rest}", std::process::id())).unwrap();
    let postgres = Postgres::start(&folder, Durability::ProcessOnly)
        .await
        .unwrap();
    assert_eq!(count(&postgres).await, 1);
    postgres.stop().await.unwrap();
    fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn a_folder_has_one_server_at_a_time() {
    let folder = empty_folder("embedded-one");
    let postgres = Postgres::start(&folder, Durability::ProcessOnly)
        .await
        .unwrap();
    let second = Postgres::start(&folder, Durability::ProcessOnly)
        .await
        .unwrap_err();
    assert!(second.to_string().contains("another process"), "{second}");
    postgres.stop().await.unwrap();
    let third = Postgres::start(&folder, Durability::ProcessOnly)
        .await
        .unwrap();
    third.stop().await.unwrap();
    fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn a_server_that_nobody_owns_any_more_ends() {
    let folder = empty_folder("embedded-dropped");
    let postgres = Postgres::start(&folder, Durability::ProcessOnly)
        .await
        .unwrap();
    let url = postgres.url("postgres");
    // As when the process is killed: the watchdog's pipe closes, nothing else happens.
    drop(postgres);
    let again = Postgres::start(&folder, Durability::ProcessOnly)
        .await
        .unwrap();
    assert!(again.url("postgres") == url || PgConnection::connect(&url).await.is_err());
    again.stop().await.unwrap();
    fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn the_password_is_asked_for() {
    let folder = empty_folder("embedded-password");
    let postgres = Postgres::start(&folder, Durability::ProcessOnly)
        .await
        .unwrap();
    let url = postgres.url("postgres");
    let (_, address) = url.split_once('@').unwrap();
    for account in ["postgres", "postgres:guessed"] {
        let error = PgConnection::connect(&format!("postgres://{account}@{address}")).await;
        assert!(error.is_err(), "{account}");
    }
    postgres.stop().await.unwrap();
    fs::remove_dir_all(&folder).unwrap();
}
