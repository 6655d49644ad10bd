//! Payments: they move only under the `show_inventory` lock of their show. `payments_once` lets a hold
//! be paid once, `payments_key_once` lets a key begin one payment.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::domain::{
    Amount, Position,
    payment::{PaymentState, Seats},
};

/// The gateway of a payment that took no money.
pub const NO_GATEWAY: &str = "none";

/// A payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    pub show_id: Uuid,
    pub payment_id: Uuid,
    pub hold_id: Uuid,
    pub request_id: Uuid,
    pub position: Position,
    pub buyer_id: String,
    pub body_hash: Vec<u8>,
    /// [`NO_GATEWAY`] when there was nothing to pay.
    pub gateway: String,
    pub payment_method: String,
    pub amount: Amount,
    pub currency: String,
    pub state: PaymentState,
    /// The gateway's id of the charge, once it is known.
    pub charge_id: Option<String>,
    pub next_action: Option<String>,
    pub reason: Option<String>,
    pub created_at: DateTime<Utc>,
    pub moved_at: DateTime<Utc>,
    /// When it is looked up if nothing has moved it; `None` when nothing is left to do.
    pub recover_at: Option<DateTime<Utc>>,
    pub hold_state: String,
    pub kept_until: DateTime<Utc>,
    /// The booking that it paid for, or pays for.
    pub booking_id: Option<Uuid>,
    pub booking_state: Option<String>,
    /// Another payment for the hold is in flight, or took the money.
    pub rivalled: bool,
}

impl Payment {
    /// Whether its seats can be booked for it. The caller holds the lock and has expired what is due.
    pub fn seats(&self, show_cancelled: bool) -> Seats {
        let booked = self.booking_state.as_deref();
        match self.hold_state.as_str() {
            "confirmed" if matches!(booked, Some("pending" | "confirmed")) => Seats::Booked,
            _ if show_cancelled || self.rivalled => Seats::Gone,
            "held" => Seats::Kept,
            "expired" => Seats::Lost,
            _ => Seats::Gone,
        }
    }
}

struct Row {
    payment_id: Uuid,
    hold_id: Uuid,
    request_id: Uuid,
    position: Position,
    buyer_id: String,
    body_hash: Vec<u8>,
    gateway: String,
    payment_method: String,
    amount: Amount,
    currency: String,
    state: String,
    charge_id: Option<String>,
    next_action: Option<String>,
    reason: Option<String>,
    created_at: DateTime<Utc>,
    moved_at: DateTime<Utc>,
    recover_at: Option<DateTime<Utc>>,
    hold_state: String,
    kept_until: DateTime<Utc>,
    booking_id: Option<Uuid>,
    booking_state: Option<String>,
    rivalled: bool,
}

impl Row {
    fn payment(self, show_id: Uuid) -> sqlx::Result<Payment> {
        let state = PaymentState::parse(&self.state).ok_or_else(|| {
            sqlx::Error::Decode(format!("no payment is ever {}", self.state).into())
        })?;
        Ok(Payment {
            show_id,
            payment_id: self.payment_id,
            hold_id: self.hold_id,
            request_id: self.request_id,
            position: self.position,
            buyer_id: self.buyer_id,
            body_hash: self.body_hash,
            gateway: self.gateway,
            payment_method: self.payment_method,
            amount: self.amount,
            currency: self.currency,
            state,
            charge_id: self.charge_id,
            next_action: self.next_action,
            reason: self.reason,
            created_at: self.created_at,
            moved_at: self.moved_at,
            recover_at: self.recover_at,
            hold_state: self.hold_state,
            kept_until: self.kept_until,
            booking_id: self.booking_id,
            booking_state: self.booking_state,
            rivalled: self.rivalled,
        })
    }
}

/// The payments of these ids, in no order; those that do not exist are absent. `offset 0` keeps it at
/// one index probe a payment, whatever the planner knows of the tables.
pub async fn find(
    connection: &mut PgConnection,
    show_id: Uuid,
    payment_ids: &[Uuid],
) -> sqlx::Result<Vec<Payment>> {
    let rows = sqlx::query_as!(
        Row,
        r#"select
            p.payment_id, p.hold_id, r.request_id, h.position, p.buyer_id, p.body_hash, p.gateway,
            p.payment_method, p.amount, p.currency, p.state, p.charge_id, p.next_action, p.reason,
            p.created_at, p.moved_at, p.recover_at, h.state as hold_state, h.kept_until,
            b.booking_id as "booking_id?", b.state as "booking_state?",
            exists (
                select 1
                from payments other
                where other.show_id = $1 and other.hold_id = p.hold_id
                    and other.payment_id <> p.payment_id
                    and other.state in ('created', 'authorized', 'capturing', 'captured')
            ) as "rivalled!"
        from unnest($2::uuid[]) as asked (payment_id)
        cross join lateral (
            select *
            from payments
            where show_id = $1 and payment_id = asked.payment_id
            offset 0
        ) p
        cross join lateral (
            select position, state, kept_until
            from holds
            where show_id = $1 and hold_id = p.hold_id
            offset 0
        ) h
        cross join lateral (
            select request_id
            from booking_requests
            where show_id = $1 and position = h.position
            offset 0
        ) r
        left join lateral (
            select booking_id, state
            from bookings
            where show_id = $1 and hold_id = p.hold_id and payment_id = p.payment_id
            offset 0
        ) b on true"#,
        show_id,
        payment_ids,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(|row| row.payment(show_id)).collect()
}

/// One payment, outside of any lock.
pub async fn find_one(
    pool: &PgPool,
    show_id: Uuid,
    payment_id: Uuid,
) -> sqlx::Result<Option<Payment>> {
    let mut connection = pool.acquire().await?;
    let found = find(&mut connection, show_id, &[payment_id]).await?;
    Ok(found.into_iter().next())
}

/// A payment that a key has begun.
#[derive(Debug, Clone)]
pub struct Known {
    pub buyer_id: String,
    pub idempotency_key: String,
    pub payment_id: Uuid,
    pub hold_id: Uuid,
    pub state: String,
    pub body_hash: Vec<u8>,
}

/// The payments that these keys have begun: `idempotency_keys[i]` of `buyer_ids[i]`.
pub async fn find_known(
    connection: &mut PgConnection,
    show_id: Uuid,
    buyer_ids: &[String],
    idempotency_keys: &[String],
) -> sqlx::Result<Vec<Known>> {
    sqlx::query_as!(
        Known,
        "select p.buyer_id, p.idempotency_key, p.payment_id, p.hold_id, p.state, p.body_hash
        from unnest($2::text[], $3::text[]) as asked (buyer_id, idempotency_key)
        cross join lateral (
            select buyer_id, idempotency_key, payment_id, hold_id, state, body_hash
            from payments
            where show_id = $1 and buyer_id = asked.buyer_id
                and idempotency_key = asked.idempotency_key
            offset 0
        ) p",
        show_id,
        buyer_ids,
        idempotency_keys,
    )
    .fetch_all(connection)
    .await
}

/// What is to be paid for.
#[derive(Debug, Clone)]
pub struct Payable {
    pub hold_id: Uuid,
    pub position: Position,
    pub buyer_id: String,
    pub state: String,
    pub total: Amount,
    pub expires_at: DateTime<Utc>,
    /// The payment that is in flight for it.
    pub paying: Option<Uuid>,
    /// That payment waits for a step of the buyer.
    pub waits: bool,
    /// Tries to pay so far.
    pub tries: i64,
}

/// The holds of these ids, in no order.
pub async fn find_payable(
    connection: &mut PgConnection,
    show_id: Uuid,
    hold_ids: &[Uuid],
) -> sqlx::Result<Vec<Payable>> {
    sqlx::query_as!(
        Payable,
        r#"select
            h.hold_id, h.position, h.buyer_id, h.state, h.total, h.expires_at,
            p.payment_id as "paying?",
            coalesce(p.state = 'created' and p.next_action is not null, false) as "waits!",
            (
                select count(*)
                from payments
                where show_id = $1 and hold_id = h.hold_id
            ) as "tries!"
        from unnest($2::uuid[]) as asked (hold_id)
        cross join lateral (
            select *
            from holds
            where show_id = $1 and hold_id = asked.hold_id
            offset 0
        ) h
        left join lateral (
            select payment_id, state, next_action
            from payments
            where show_id = $1 and hold_id = h.hold_id
                and state in ('created', 'authorized', 'capturing')
            offset 0
        ) p on true"#,
        show_id,
        hold_ids,
    )
    .fetch_all(connection)
    .await
}

/// Lets payments that are over give their keys to others: who was declined may pay with the same key.
pub async fn give_up_keys(
    connection: &mut PgConnection,
    show_id: Uuid,
    payment_ids: &[Uuid],
) -> sqlx::Result<()> {
    sqlx::query!(
        "update payments
        set idempotency_key = idempotency_key || ' ' || payment_id
        where show_id = $1 and payment_id = any($2)",
        show_id,
        payment_ids,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Ends payments that wait for a step of their buyers, who pay in another way; recovery lets their charges
/// go.
pub async fn supersede(
    connection: &mut PgConnection,
    show_id: Uuid,
    payment_ids: &[Uuid],
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update payments
        set
            state = 'failed', reason = 'superseded', next_action = null, moved_at = $3,
            recover_at = $3, recoveries = 0
        where show_id = $1 and payment_id = any($2) and state = 'created'",
        show_id,
        payment_ids,
        now,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The columns of payments that begin, row by row at the same index.
#[derive(Debug, Default)]
pub struct NewPayments {
    pub payment_ids: Vec<Uuid>,
    pub hold_ids: Vec<Uuid>,
    pub buyer_ids: Vec<String>,
    pub idempotency_keys: Vec<String>,
    pub body_hashes: Vec<Vec<u8>>,
    pub gateways: Vec<String>,
    pub payment_methods: Vec<String>,
    pub amounts: Vec<Amount>,
    pub currencies: Vec<String>,
    pub states: Vec<String>,
    pub recover_ats: Vec<Option<DateTime<Utc>>>,
}

/// Begins payments.
pub async fn insert(
    connection: &mut PgConnection,
    show_id: Uuid,
    new: &NewPayments,
    created_at: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into payments (
            show_id, payment_id, hold_id, buyer_id, idempotency_key, body_hash, gateway,
            payment_method, amount, currency, state, recover_at, created_at, moved_at
        )
        select
            $1, payment_id, hold_id, buyer_id, idempotency_key, body_hash, gateway,
            payment_method, amount, currency, state, recover_at, $13, $13
        from unnest(
            $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::bytea[], $7::text[], $8::text[],
            $9::bigint[], $10::text[], $11::text[], $12::timestamptz[]
        ) as new (
            payment_id, hold_id, buyer_id, idempotency_key, body_hash, gateway, payment_method,
            amount, currency, state, recover_at
        )",
        show_id,
        &new.payment_ids,
        &new.hold_ids,
        &new.buyer_ids,
        &new.idempotency_keys,
        &new.body_hashes,
        &new.gateways,
        &new.payment_methods,
        &new.amounts,
        &new.currencies,
        &new.states,
        &new.recover_ats as &[Option<DateTime<Utc>>],
        created_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The columns of payments that change, row by row at the same index.
#[derive(Debug, Default)]
pub struct Moves {
    pub payment_ids: Vec<Uuid>,
    pub states: Vec<String>,
    pub charge_ids: Vec<Option<String>>,
    pub next_actions: Vec<Option<String>>,
    pub reasons: Vec<Option<String>>,
    pub recover_ats: Vec<Option<DateTime<Utc>>>,
    /// Whether it has moved at all; else only when it is looked up changes.
    pub moved: Vec<bool>,
}

/// Changes payments: all of these columns are set anew.
pub async fn set(
    connection: &mut PgConnection,
    show_id: Uuid,
    moves: &Moves,
    moved_at: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update payments p
        set
            state = moved.state,
            charge_id = moved.charge_id,
            next_action = moved.next_action,
            reason = moved.reason,
            recover_at = moved.recover_at,
            recoveries = case when moved.has_moved then 0 else p.recoveries end,
            moved_at = case when moved.has_moved then $9 else p.moved_at end
        from unnest(
            $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::timestamptz[],
            $8::boolean[]
        ) as moved (payment_id, state, charge_id, next_action, reason, recover_at, has_moved)
        where p.show_id = $1 and p.payment_id = moved.payment_id",
        show_id,
        &moves.payment_ids,
        &moves.states,
        &moves.charge_ids as &[Option<String>],
        &moves.next_actions as &[Option<String>],
        &moves.reasons as &[Option<String>],
        &moves.recover_ats as &[Option<DateTime<Utc>>],
        &moves.moved,
        moved_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes payments whose time to be looked up has come, at most `limit`. Each is due again after `stuck`
/// while its seats are kept, and when that ends: the buyer may be at a further step. Then the later the
/// more often it was taken: `stuck`, doubled each time, at most an hour.
pub async fn take_due(
    connection: &mut PgConnection,
    show_id: Uuid,
    stuck: Duration,
    limit: i64,
) -> sqlx::Result<Vec<Uuid>> {
    // The rows that another worker is taking are its own: skipped, not waited for. A payment that moves
    // at the same time is waited for by nobody either, and is not due any more.
    sqlx::query_scalar!(
        "with due as (
            select payment_id, hold_id
            from payments
            where show_id = $1 and recover_at <= now()
            order by recover_at
            limit $3
            for update skip locked
        ),
        kept as (
            select due.payment_id, h.kept_until
            from due
            left join lateral (
                select kept_until
                from holds
                where show_id = $1 and hold_id = due.hold_id
                    and state = 'held' and kept_until > now()
                offset 0
            ) h on true
        )
        update payments p
        set
            recover_at = case
                when kept.kept_until is null then now() + least(
                    $2 * power(2, least(recoveries, 30)) * interval '1 millisecond',
                    interval '1 hour'
                )
                else least(now() + $2 * interval '1 millisecond', kept.kept_until)
            end,
            recoveries = case when kept.kept_until is null then recoveries + 1 else 1 end
        from kept
        where p.show_id = $1 and p.payment_id = kept.payment_id
        returning p.payment_id",
        show_id,
        stuck.as_millis() as f64,
        limit,
    )
    .fetch_all(connection)
    .await
}

/// A payment as it is compared with its gateway.
#[derive(Debug, Clone)]
pub struct Reckoned {
    pub show_id: Uuid,
    pub payment_id: Uuid,
    pub gateway: String,
    pub state: String,
    pub amount: Amount,
    pub currency: String,
    pub charge_id: Option<String>,
    pub created_at: DateTime<Utc>,
    pub moved_at: DateTime<Utc>,
    /// How long ago it began, by the clock of the database.
    pub age_s: f64,
    /// How long ago it moved.
    pub rested_s: f64,
    /// The state of the booking that it paid for.
    pub booking_state: Option<String>,
}

/// Payments of a show by their ids, from the one after `after` on, at most `limit`; only those that are
/// at `gateway` or at none and began or moved at or after `since`.
pub async fn list_reckoned(
    pool: &PgPool,
    show_id: Uuid,
    gateway: &str,
    since: DateTime<Utc>,
    after: Uuid,
    limit: i64,
) -> sqlx::Result<Vec<Reckoned>> {
    sqlx::query_as!(
        Reckoned,
        r#"select
            p.show_id, p.payment_id, p.gateway, p.state, p.amount, p.currency, p.charge_id,
            p.created_at, p.moved_at,
            extract(epoch from now() - p.created_at)::double precision as "age_s!",
            extract(epoch from now() - p.moved_at)::double precision as "rested_s!",
            b.state as "booking_state?"
        from payments p
        left join bookings b
            on b.show_id = p.show_id and b.hold_id = p.hold_id and b.payment_id = p.payment_id
        where p.show_id = $1
            and p.payment_id > $4
            and (p.created_at >= $3 or p.moved_at >= $3)
            and p.gateway in ($2, 'none')
        order by p.payment_id
        limit $5"#,
        show_id,
        gateway,
        since,
        after,
        limit,
    )
    .fetch_all(pool)
    .await
}

/// Payments of a show that moved after `after` and long after they began, in the order of their moves,
/// at most `limit`. Only those of ids up to `last_id`: those above it are
/// in [`list_reckoned`].
pub async fn list_moved_late(
    pool: &PgPool,
    show_id: Uuid,
    gateway: &str,
    last_id: Uuid,
    after: (DateTime<Utc>, Uuid),
    limit: i64,
) -> sqlx::Result<Vec<Reckoned>> {
    // The words of the partial index payments_moved_late.
    sqlx::query_as!(
        Reckoned,
        r#"select
            p.show_id, p.payment_id, p.gateway, p.state, p.amount, p.currency, p.charge_id,
            p.created_at, p.moved_at,
            extract(epoch from now() - p.created_at)::double precision as "age_s!",
            extract(epoch from now() - p.moved_at)::double precision as "rested_s!",
            b.state as "booking_state?"
        from payments p
        left join bookings b
            on b.show_id = p.show_id and b.hold_id = p.hold_id and b.payment_id = p.payment_id
        where p.show_id = $1
            and p.moved_at - p.created_at > interval '1 hour'
            and (p.moved_at, p.payment_id) > ($4, $5)
            and p.payment_id <= $3
            and p.gateway in ($2, 'none')
        order by p.moved_at, p.payment_id
        limit $6"#,
        show_id,
        gateway,
        last_id,
        after.0,
        after.1,
        limit,
    )
    .fetch_all(pool)
    .await
}

/// One payment as it is compared with its gateway.
pub async fn find_reckoned(
    pool: &PgPool,
    show_id: Uuid,
    payment_id: Uuid,
) -> sqlx::Result<Option<Reckoned>> {
    sqlx::query_as!(
        Reckoned,
        r#"select
            p.show_id, p.payment_id, p.gateway, p.state, p.amount, p.currency, p.charge_id,
            p.created_at, p.moved_at,
            extract(epoch from now() - p.created_at)::double precision as "age_s!",
            extract(epoch from now() - p.moved_at)::double precision as "rested_s!",
            b.state as "booking_state?"
        from payments p
        left join bookings b
            on b.show_id = p.show_id and b.hold_id = p.hold_id and b.payment_id = p.payment_id
        where p.show_id = $1 and p.payment_id = $2"#,
        show_id,
        payment_id,
    )
    .fetch_optional(pool)
    .await
}
