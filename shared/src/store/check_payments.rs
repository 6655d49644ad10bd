//! What must be true of a show's payments at any time, in the manner of [`super::check`]; and the accounts
//! of money that its buyers' stories and the gateway's ledger are held against.

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use uuid::Uuid;

use super::check::BREACHES_MAX;

type Breaches = sqlx::Result<Vec<String>>;

/// Payments whose booking does not stand as they do: captured is confirmed, capturing is pending, given
/// back is cancelled, and nothing else has a booking.
pub async fn payments_unlike_bookings(db: &PgPool, show_id: Uuid) -> Breaches {
    sqlx::query_scalar!(
        r#"with paid as (
            select payment_id, hold_id, buyer_id, state from payments where show_id = $1
        ), booked as (
            select payment_id, booking_id, hold_id, buyer_id, state
            from bookings
            where show_id = $1 and payment_id is not null
        )
        select format('payment %s for hold %s of buyer %s is %s; its booking of hold %s of buyer %s is %s',
                coalesce(paid.payment_id, booked.payment_id), coalesce(paid.hold_id::text, 'none'),
                coalesce(paid.buyer_id, 'nobody'), coalesce(paid.state, 'absent'),
                coalesce(booked.hold_id::text, 'none'), coalesce(booked.buyer_id, 'nobody'),
                coalesce(booked.state, 'absent')) as "breach!"
        from paid
        full join booked on booked.payment_id = paid.payment_id
        where paid.payment_id is null
            or booked.state is distinct from
                case
                    when paid.state = 'capturing' then 'pending'
                    when paid.state = 'captured' then 'confirmed'
                    when booked.booking_id is not null
                        and paid.state in ('refunding', 'refunded', 'voided', 'failed')
                    then 'cancelled'
                end
            or booked.hold_id <> paid.hold_id
            or booked.buyer_id <> paid.buyer_id
        order by 1
        limit $2"#,
        show_id,
        BREACHES_MAX
    )
    .fetch_all(db)
    .await
}

/// Payments of another amount than what their hold costs, or than nothing where nothing is to be paid;
/// of another buyer; or in another currency.
pub async fn payments_unlike_holds(db: &PgPool, show_id: Uuid) -> Breaches {
    sqlx::query_scalar!(
        r#"select format('payment %s of buyer %s at gateway %s is of %s %s, its hold %s of buyer %s costs %s in a %s show',
                payments.payment_id, payments.buyer_id, payments.gateway, payments.amount,
                payments.currency, payments.hold_id, coalesce(holds.buyer_id, 'nobody'),
                coalesce(holds.total::text, 'nothing'), shows.payment_policy) as "breach!"
        from payments
        join shows on shows.show_id = payments.show_id
        left join holds on holds.show_id = payments.show_id and holds.hold_id = payments.hold_id
        where payments.show_id = $1
            and (payments.amount is distinct from
                    case when shows.payment_policy = 'complimentary' then 0 else holds.total end
                or (payments.gateway = 'none') <> (payments.amount = 0)
                or payments.buyer_id is distinct from holds.buyer_id
                or payments.currency <> shows.currency)
        order by payments.payment_id
        limit $2"#,
        show_id,
        BREACHES_MAX
    )
    .fetch_all(db)
    .await
}

/// Holds for which more than one payment is in flight or took the money.
pub async fn holds_paid_twice(db: &PgPool, show_id: Uuid) -> Breaches {
    sqlx::query_scalar!(
        r#"select format('hold %s has the payments %s', hold_id,
                string_agg(payment_id || ' ' || state, ', ' order by payment_id)) as "breach!"
        from payments
        where show_id = $1 and state in ('created', 'authorized', 'capturing', 'captured')
        group by hold_id
        having count(*) > 1
        order by hold_id
        limit $2"#,
        show_id,
        BREACHES_MAX
    )
    .fetch_all(db)
    .await
}

/// Payments on their way that nobody will ever look up.
pub async fn payments_forgotten(db: &PgPool, show_id: Uuid) -> Breaches {
    sqlx::query_scalar!(
        r#"select format('payment %s is %s and is never looked up', payment_id, state) as "breach!"
        from payments
        where show_id = $1 and recover_at is null
            and state in ('created', 'authorized', 'capturing', 'refunding')
        order by payment_id
        limit $2"#,
        show_id,
        BREACHES_MAX
    )
    .fetch_all(db)
    .await
}

/// How many payments are on their way that may come to their end within `patience_s`, and how many holds
/// live whose time is over by then. Not counted is a payment whose buyer has a step left, and as long for
/// it, or that is looked up later only.
pub async fn unfinished(db: &PgPool, show_id: Uuid, patience_s: f64) -> sqlx::Result<(i64, i64)> {
    let row = sqlx::query!(
        r#"select
            (
                select count(*)
                from payments
                join holds on holds.show_id = payments.show_id and holds.hold_id = payments.hold_id
                where payments.show_id = $1
                    and payments.state in ('created', 'authorized', 'capturing', 'refunding')
                    and not (payments.state = 'created' and payments.next_action is not null
                        and (payments.recover_at > now() + make_interval(secs => $2)
                            or (holds.state = 'held'
                                and holds.kept_until > now() + make_interval(secs => $2))))
            ) as "payments!",
            (
                select count(*)
                from holds
                where show_id = $1 and state = 'held'
                    and kept_until <= now() + make_interval(secs => $2)
            ) as "holds!""#,
        show_id,
        patience_s
    )
    .fetch_one(db)
    .await?;
    Ok((row.payments, row.holds))
}

/// One payment with what it paid for, as the database has it.
#[derive(Debug, Clone)]
pub struct PaymentAccount {
    pub payment_id: Uuid,
    pub hold_id: Uuid,
    pub state: String,
    pub amount: i64,
    /// Its buyer has a step left and the hold's time for it; or had it, and it is looked up later.
    pub waits: bool,
    pub booking_id: Option<Uuid>,
    pub booking_state: Option<String>,
    pub confirmed_at: Option<DateTime<Utc>>,
}

/// The next payments at a gateway after an id, in order.
pub async fn payment_accounts(
    db: &PgPool,
    show_id: Uuid,
    after: Uuid,
    limit: i64,
) -> sqlx::Result<Vec<PaymentAccount>> {
    sqlx::query_as!(
        PaymentAccount,
        r#"select payments.payment_id, payments.hold_id, payments.state, payments.amount,
            (
                payments.state = 'created' and payments.next_action is not null
                and (payments.recover_at > now()
                    or (holds.state = 'held' and holds.kept_until > now()))
            ) as "waits!",
            bookings.booking_id as "booking_id?", bookings.state as "booking_state?", bookings.confirmed_at
        from payments
        left join holds on holds.show_id = payments.show_id and holds.hold_id = payments.hold_id
        left join bookings on bookings.show_id = payments.show_id
            and bookings.hold_id = payments.hold_id
            and bookings.payment_id = payments.payment_id
        where payments.show_id = $1 and payments.payment_id > $2 and payments.gateway <> 'none'
        order by payments.payment_id
        limit $3"#,
        show_id,
        after,
        limit
    )
    .fetch_all(db)
    .await
}
