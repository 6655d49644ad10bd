//! The rules that keep a show on one node of a distributed Postgres, read from the catalog.

use sqlx::PgPool;

use crate::harness::run;

/// Tables that belong to no show.
const SHOWLESS: [&str; 3] = ["_sqlx_migrations", "api_keys", "webhook_endpoints"];

/// One column of text.
async fn texts(pool: &PgPool, statement: &'static str) -> Vec<String> {
    sqlx::query_scalar(statement).fetch_all(pool).await.unwrap()
}

#[test]
fn every_table_of_a_show_has_its_show_id_first() {
    run(async |arena| {
        let tables = texts(
            &arena.pool,
            "select table_name::text from information_schema.tables
            where table_schema = 'public' and table_type = 'BASE TABLE'",
        )
        .await;
        let with_show = texts(
            &arena.pool,
            "select table_name::text from information_schema.columns
            where table_schema = 'public' and column_name = 'show_id' and ordinal_position = 1
                and data_type = 'uuid' and is_nullable = 'NO'",
        )
        .await;
        assert!(tables.len() > 10, "{tables:?}");
        for table in tables {
            let showless = SHOWLESS.contains(&table.as_str());
            assert!(
                showless != with_show.contains(&table),
                "{table} needs show_id as its first"
            );
        }
    });
}

#[test]
fn every_unique_index_and_foreign_key_contains_the_show() {
    run(async |arena| {
        let without = texts(
            &arena.pool,
            "select i.indexrelid::regclass::text
            from pg_index i
            join pg_class t on t.oid = i.indrelid
            join pg_attribute a on a.attrelid = i.indrelid and a.attname = 'show_id'
            where t.relnamespace = 'public'::regnamespace
                and i.indisunique
                and i.indkey[0] <> a.attnum",
        )
        .await;
        assert!(without.is_empty(), "{without:?}");
        let without = texts(
            &arena.pool,
            "select c.conname::text
            from pg_constraint c
            join pg_attribute a on a.attrelid = c.conrelid and a.attname = 'show_id'
            where c.contype = 'f' and a.attnum <> all(c.conkey)",
        )
        .await;
        assert!(without.is_empty(), "{without:?}");
    });
}

#[test]
fn nothing_in_the_database_acts_on_its_own() {
    run(async |arena| {
        let found = texts(
            &arena.pool,
            "select 'trigger ' || tgname from pg_trigger t
            join pg_class c on c.oid = t.tgrelid
            where c.relnamespace = 'public'::regnamespace and not tgisinternal
            union all
            select 'rule ' || rulename from pg_rewrite r
            join pg_class c on c.oid = r.ev_class
            where c.relnamespace = 'public'::regnamespace and c.relkind <> 'v'
            union all
            select 'sequence ' || relname from pg_class
            where relnamespace = 'public'::regnamespace and relkind = 'S'
            union all
            select 'identity ' || attname from pg_attribute a
            join pg_class c on c.oid = a.attrelid
            where c.relnamespace = 'public'::regnamespace and a.attidentity <> ''
            union all
            select 'function ' || proname from pg_proc p
            where pronamespace = 'public'::regnamespace
                -- The queues of apalis need extensions, which lie here.
                and not exists (
                    select 1 from pg_depend
                    where classid = 'pg_proc'::regclass and objid = p.oid and deptype = 'e'
                )",
        )
        .await;
        assert!(found.is_empty(), "{found:?}");
    });
}

#[test]
fn the_guards_of_the_promises_are_there_by_name() {
    run(async |arena| {
        let names = texts(
            &arena.pool,
            "select conname::text from pg_constraint
            union
            select relname::text from pg_class where relkind = 'i'",
        )
        .await;
        for guard in [
            "hold_seats_once",
            "seats_taken_by_a_hold",
            "sections_not_oversold",
            "buyer_totals_within_limit",
            "booking_requests_key_once",
            "outcomes_once",
            "bookings_once",
            "webhook_deliveries_once",
            "holds_position_once",
        ] {
            assert!(names.iter().any(|name| name == guard), "{guard} is missing");
        }
    });
}

#[test]
fn seats_leave_room_for_hot_updates_and_no_index_is_on_a_status() {
    run(async |arena| {
        let options = texts(
            &arena.pool,
            "select unnest(reloptions) from pg_class where relname = 'seats'",
        )
        .await;
        assert_eq!(options, ["fillfactor=50"]);
        let indexed = texts(
            &arena.pool,
            "select i.indexrelid::regclass::text
            from pg_index i
            join pg_class t on t.oid = i.indrelid
            join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any(i.indkey)
            where t.relnamespace = 'public'::regnamespace
                and a.attname in ('status', 'state', 'version')
                and i.indrelid <> '_sqlx_migrations'::regclass",
        )
        .await;
        assert!(indexed.is_empty(), "{indexed:?}");
    });
}
