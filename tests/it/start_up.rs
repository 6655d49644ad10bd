//! What keeps a process from starting: one clear line on standard error, and exit code 1.

use std::{net::TcpListener, process::Command};

use crate::harness::{BUYER_SECRET, binary, run};

/// The one line of a command that fails at once.
#[track_caller]
fn refusal(command: &mut Command) -> String {
    let output = command.output().expect("running the binary");
    let said = String::from_utf8(output.stderr).expect("the log is UTF-8");
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(output.stdout.is_empty(), "{said}");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 1, "{said}");
    assert!(lines[0].starts_with("error: "), "{said}");
    lines[0].to_owned()
}

/// A port on which nobody listens.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

#[test]
fn an_unreachable_database_is_said_in_one_line() {
    let url = format!(
        "postgres://stampede:secret@127.0.0.1:{}/stampede",
        free_port()
    );
    for part in ["api", "worker", "migrate", "dev"] {
        let line = refusal(
            binary()
                .current_dir(env!("CARGO_TARGET_TMPDIR"))
                .env("DATABASE_URL", &url)
                .env("STAMPEDE_BUYER_SECRET", BUYER_SECRET)
                .arg(part),
        );
        assert!(line.contains("the database cannot be reached"), "{line}");
        assert!(!line.contains("secret"), "{line}");
    }
}

#[test]
fn a_port_in_use_is_said_in_one_line() {
    run(async |arena| {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let api = refusal(
            binary()
                .env("DATABASE_URL", arena.database_url())
                .env("STAMPEDE_BUYER_SECRET", BUYER_SECRET)
                .env("STAMPEDE_LOG", "warn")
                .args(["api", "--listen", &address]),
        );
        assert!(api.contains(&address) && api.contains("in use"), "{api}");
        let worker = refusal(
            binary()
                .env("DATABASE_URL", arena.database_url())
                .env("STAMPEDE_LOG", "warn")
                .args(["worker", "--metrics-listen", &address]),
        );
        assert!(
            worker.contains(&address) && worker.contains("in use"),
            "{worker}"
        );
    });
}

#[test]
fn a_wrong_setting_is_said_in_one_line_without_its_value() {
    let line = refusal(
        binary()
            .env("DATABASE_URL", "postgres://127.0.0.1/stampede")
            .env("STAMPEDE_BUYER_SECRET", "too-short-for-this")
            .arg("api"),
    );
    assert!(line.contains("--buyer-secret"), "{line}");
    assert!(!line.contains("too-short-for-this"), "{line}");

    let line = refusal(binary().args(["dev", "--rate-buyer", "often"]));
    assert!(line.contains("--rate-buyer"), "{line}");
    let line = refusal(binary().args(["worker", "--nonsense"]));
    assert!(line.contains("--nonsense"), "{line}");
    let line = refusal(binary().arg("api"));
    assert!(line.contains("--database-url"), "{line}");
    let line = refusal(binary().args(["api", "--database-url", "nonsense"]));
    assert!(line.contains("postgres://"), "{line}");
}

#[test]
fn parts_refuse_a_database_without_the_tables() {
    run(async |arena| {
        sqlx::query("delete from _sqlx_migrations where version > 1")
            .execute(&arena.pool)
            .await
            .unwrap();
        for part in ["api", "worker"] {
            let line = refusal(
                binary()
                    .env("DATABASE_URL", arena.database_url())
                    .env("STAMPEDE_BUYER_SECRET", BUYER_SECRET)
                    .arg(part),
            );
            assert!(line.contains("stampede migrate"), "{line}");
        }
    });
}

#[test]
fn the_manual_says_what_every_part_takes() {
    for (arguments, words) in [
        (
            vec!["--help"],
            vec!["dev", "api", "worker", "migrate", "flood", "bench"],
        ),
        (
            vec!["api", "--help"],
            vec!["STAMPEDE_LISTEN", "127.0.0.1:8080", "DATABASE_URL"],
        ),
        (
            vec!["worker", "--help"],
            vec!["STAMPEDE_CONCURRENCY", "STAMPEDE_LOG_FORMAT"],
        ),
        (
            vec!["dev", "--help"],
            vec!["STAMPEDE_DATA_DIR", ".stampede"],
        ),
    ] {
        let output = binary().args(&arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        for word in words {
            assert!(
                text.contains(word),
                "{arguments:?} does not mention {word}:\n{text}"
            );
        }
    }
}
