//! What processes tell each other. A hint only: whoever misses it finds the same by polling.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::domain::Position;

/// The API says: there is something to decide. Payload: the show.
pub const ACCEPTED: &str = "stampede_accepted";

/// Workers and desks say: there is something to tell. Payload: a [`Told`].
pub const TOLD: &str = "stampede_told";

/// The most positions in one payload, which may have 8,000 bytes.
const POSITIONS_MAX: usize = 350;

/// What changed for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// Everything in the line up to this position has its outcome.
    Decided { show_id: Uuid, through: Position },
    /// The requests at these positions changed after they were decided, or left the line.
    Changed {
        show_id: Uuid,
        positions: Vec<Position>,
    },
    /// The state of the sale changed.
    Sale { show_id: Uuid },
}

impl Told {
    /// The payload, such as `d <show> 17`, `c <show> 3,5,9` or `s <show>`.
    pub fn payload(&self) -> String {
        match self {
            Told::Decided { show_id, through } => format!("d {show_id} {through}"),
            Told::Changed { show_id, positions } => {
                let positions: Vec<String> = positions.iter().map(Position::to_string).collect();
                format!("c {show_id} {}", positions.join(","))
            }
            Told::Sale { show_id } => format!("s {show_id}"),
        }
    }

    /// The reverse of [`Told::payload`]; `None` for what a newer version may say.
    pub fn parse(payload: &str) -> Option<Told> {
        let mut words = payload.split(' ');
        let kind = words.next()?;
        let show_id = words.next()?.parse().ok()?;
        match kind {
            "d" => Some(Told::Decided {
                show_id,
                through: words.next()?.parse().ok()?,
            }),
            "c" => {
                let positions = words.next()?.split(',').map(|word| word.parse().ok());
                Some(Told::Changed {
                    show_id,
                    positions: positions.collect::<Option<_>>()?,
                })
            }
            "s" => Some(Told::Sale { show_id }),
            _ => None,
        }
    }
}

/// Wakes the workers when the transaction commits.
pub async fn accepted(connection: &mut PgConnection, show_id: Uuid) -> sqlx::Result<()> {
    send(connection, ACCEPTED, &show_id.to_string()).await
}

/// Tells the API replicas when the transaction commits.
pub async fn told(connection: &mut PgConnection, told: &Told) -> sqlx::Result<()> {
    send(connection, TOLD, &told.payload()).await
}

/// Tells the API replicas that these requests changed, in as many messages as it takes.
pub async fn changed(
    connection: &mut PgConnection,
    show_id: Uuid,
    positions: &[Position],
) -> sqlx::Result<()> {
    for positions in positions.chunks(POSITIONS_MAX) {
        told(
            connection,
            &Told::Changed {
                show_id,
                positions: positions.to_vec(),
            },
        )
        .await?;
    }
    Ok(())
}

async fn send(connection: &mut PgConnection, channel: &str, payload: &str) -> sqlx::Result<()> {
    sqlx::query!("select pg_notify($1, $2)", channel, payload)
        .execute(connection)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_reads_back_and_fits() {
        let show_id = Uuid::max();
        let most = Told::Changed {
            show_id,
            positions: vec![999_999_999_999_999; POSITIONS_MAX],
        };
        assert!(most.payload().len() < 8000);
        for told in [
            Told::Decided {
                show_id,
                through: 17,
            },
            most,
            Told::Sale { show_id },
        ] {
            assert_eq!(Told::parse(&told.payload()), Some(told));
        }
        assert_eq!(Told::parse("x y z"), None);
    }
}
