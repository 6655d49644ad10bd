//! The benchmark: the product's own path beside the bare limit, in one run on one database.

mod decide;
mod figures;
mod hall;

use stampede_shared::store::Database;

pub async fn try_decide(database: &Database) -> anyhow::Result<()> {
    use decide::Log;
    use hall::Asks;
    let rounds = 3;
    let log = Log {
        asks: Asks::NamedSeats,
        sections: 5,
        seats_per_section: 2000,
        requests: 100_000,
    };
    println!(
        "decide {:?}",
        decide::measure(database, log, rounds).await?.summary()
    );
    println!(
        "sold out {:?}",
        decide::measure_sold_out(database, log, rounds)
            .await?
            .summary()
    );
    let log = Log {
        asks: Asks::BestAvailable,
        sections: 10,
        seats_per_section: 2000,
        requests: 8_000,
    };
    println!(
        "best {:?}",
        decide::measure(database, log, rounds).await?.summary()
    );
    let log = Log {
        asks: Asks::NamedSeats,
        sections: 10,
        seats_per_section: 2000,
        requests: 8_000,
    };
    println!(
        "named mostly win {:?}",
        decide::measure(database, log, rounds).await?.summary()
    );
    Ok(())
}
