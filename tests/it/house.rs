//! The lines between the parts of the house.

use std::{
    fs,
    path::{Path, PathBuf},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Our sources: paths below the root and their texts. Tests are not among them.
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let parts = [
        "shared", "payments", "gateway", "api", "worker", "flood", "bench", "devdb",
    ];
    let mut folders: Vec<PathBuf> = parts
        .iter()
        .map(|part| root().join(part).join("src"))
        .collect();
    folders.push(root().join("src"));
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path
                    .strip_prefix(root())
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned();
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(found.len() > 50, "found only {} sources", found.len());
    found
}

/// Sources outside of these folders that contain the text.
fn outside(folders: &[&str], text: &str) -> Vec<String> {
    sources()
        .into_iter()
        .filter(|(path, source)| {
            source.contains(text) && !folders.iter().any(|folder| path.starts_with(folder))
        })
        .map(|(path, _)| path)
        .collect()
}

const NONE: [String; 0] = [];

#[test]
fn statements_stand_only_in_the_store() {
    assert_eq!(outside(&["shared/src/store/"], "sqlx::query"), NONE);
    // The embedded server asks itself for its version before there is a store.
    assert_eq!(outside(&["shared/src/store/", "devdb/"], "raw_sql"), NONE);
}

#[test]
fn axum_stands_only_in_the_servers_and_apalis_only_in_queue_and_worker() {
    assert_eq!(outside(&["api/", "gateway/"], "axum::"), NONE);
    assert_eq!(
        outside(&["shared/src/queue.rs", "worker/"], "apalis_core::"),
        NONE
    );
    assert_eq!(
        outside(&["shared/src/queue.rs", "worker/"], "apalis::"),
        NONE
    );
    assert_eq!(outside(&["worker/src/jobs/"], "apalis_postgres::"), NONE);
}

#[test]
fn the_api_and_the_worker_meet_only_in_the_database() {
    assert_eq!(
        outside(&["worker/", "bench/", "src/"], "stampede_worker::"),
        NONE
    );
    assert_eq!(outside(&["api/", "bench/", "src/"], "stampede_api::"), NONE);
}

#[test]
fn the_domain_has_no_clock_no_randomness_and_no_io() {
    for (path, source) in sources() {
        if path.starts_with("shared/src/domain/") {
            for word in [
                "Utc::now",
                "Instant::now",
                "rand::",
                "async fn",
                "sqlx",
                "std::fs",
            ] {
                assert!(!source.contains(word), "{path} has {word}");
            }
        }
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    for (path, source) in sources() {
        assert!(
            source.starts_with("//!"),
            "{path} does not start with what it is for"
        );
    }
}

#[test]
fn nothing_is_left_for_later() {
    // Split, so that this file does not find itself.
    for word in [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("unimpl", "emented!"),
    ] {
        assert_eq!(outside(&[], word), NONE);
    }
}
