//! The rules of the statements, read from the source of the store.

use std::{fs, path::Path};

/// Files whose statements are about no single show.
const SHOWLESS_FILES: [&str; 6] = [
    "across_shows.rs",
    "api_keys.rs",
    "database.rs",
    "jobs.rs",
    "notify.rs",
    "webhook_endpoints.rs",
];

/// One statement and where it stands.
struct Statement {
    file: String,
    text: String,
}

/// All statements of `shared/src/store`, in lower case, white space folded.
fn statements() -> Vec<Statement> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("shared/src/store");
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_str().unwrap().to_owned();
        let source = fs::read_to_string(&path).unwrap();
        for call in source.split("sqlx::query").skip(1) {
            let text = first_literal(call);
            let text = text
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
                .to_lowercase();
            found.push(Statement {
                file: file.clone(),
                text,
            });
        }
    }
    assert!(found.len() > 40, "found only {} statements", found.len());
    found
}

/// The first string literal, plain or raw.
fn first_literal(source: &str) -> &str {
    let start = source.find('"').expect("a query has a text");
    let (open, close) = if source[..start].ends_with("r#") {
        (start + 1, "\"#")
    } else {
        (start + 1, "\"")
    };
    let length = source[open..].find(close).expect("a text ends");
    &source[open..open + length]
}

#[test]
fn every_statement_names_its_show() {
    for Statement { file, text } in statements() {
        if SHOWLESS_FILES.contains(&file.as_str()) {
            continue;
        }
        let named = text.contains("show_id = $")
            || text.starts_with("insert into") && text.contains("show_id");
        // The list of shows is the one read that is about all of them.
        let list_of_shows = file == "shows.rs" && text.contains("limit $");
        assert!(named || list_of_shows, "{file}: {text}");
    }
}

/// The names of our tables and views.
fn tables() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut tables = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let source = fs::read_to_string(entry.unwrap().path()).unwrap();
        for kind in ["create table ", "create view "] {
            let names = source
                .split(kind)
                .skip(1)
                .map(|rest| rest.split_whitespace().next());
            tables.extend(names.map(|name| name.unwrap().to_owned()));
        }
    }
    assert!(tables.len() > 10, "{tables:?}");
    tables
}

#[test]
fn every_join_of_a_table_joins_the_show() {
    let tables = tables();
    for Statement { file, text } in statements() {
        for joined in text.split(" join ").skip(1) {
            // What is no table is a subquery or a list of values, which names its show inside.
            let name = joined.split_whitespace().next().unwrap();
            if tables.iter().any(|table| table == name) {
                assert!(joined.contains("show_id"), "{file}: {text}");
            }
        }
    }
}

#[test]
fn statements_across_shows_only_read() {
    for Statement { file, text } in statements() {
        if file == "across_shows.rs" {
            assert!(text.starts_with("select"), "{text}");
            assert!(
                !text.contains("for update") && !text.contains("for share"),
                "{text}"
            );
            assert!(text.contains("limit $"), "{text}");
        }
    }
}

#[test]
fn no_statement_uses_what_a_distributed_postgres_refuses() {
    for Statement { file, text } in statements() {
        for word in [
            "merge into",
            "advisory",
            "nextval",
            "random()",
            "gen_random_uuid",
            "create ",
        ] {
            assert!(!text.contains(word), "{file}: {word}: {text}");
        }
        if text.starts_with("update") || text.contains("on conflict") {
            assert!(!text.contains("clock_timestamp"), "{file}: {text}");
        }
        if let Some((_, update)) = text.split_once("do update set") {
            for assignment in update.split(',') {
                assert!(assignment.contains("= excluded."), "{file}: {assignment}");
            }
        }
        for setting in text.match_indices("set ").map(|(at, _)| &text[at..]) {
            let outside = text.starts_with("begin") && !setting.starts_with("set local");
            assert!(!outside, "{file}: {text}");
        }
    }
}

#[test]
fn a_read_of_many_rows_is_bounded() {
    // Bounded by what the caller asks for, by a seat map, or by the requests of one turn.
    let bounded = [
        "limit $",
        "any($",
        "unnest(",
        "from sections",
        "from seats",
        "position <= $",
    ];
    for Statement { file, text } in statements() {
        let one = text.contains("where show_id = $1 and ")
            || text.contains("where i.show_id = $1")
            || text.contains("where p.show_id = $1 and p.payment_id = $2");
        let checks = [
            "check.rs",
            "database.rs",
            "api_keys.rs",
            "jobs.rs",
            "notify.rs",
        ]
        .contains(&file.as_str());
        if text.starts_with("select") && !checks && !one {
            let rows_of_one_show = text.contains("show_id = $1") && text.contains("for update");
            let is_bounded = rows_of_one_show || bounded.iter().any(|word| text.contains(word));
            let by_key =
                file == "shows.rs" || file == "show_intake.rs" || file == "show_progress.rs";
            assert!(is_bounded || by_key, "{file}: {text}");
        }
    }
}
