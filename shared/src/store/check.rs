//! What must be true of a show's rows at any time, each as one statement that finds what breaks it.
//!
//! Read-only, and each statement is one snapshot, so they may run while a sale is going on. A row of
//! an answer is a sentence about one breach; no rows is good. Nothing here trusts a constraint: a
//! dropped one is what these are for.

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use uuid::Uuid;

/// The most breaches of one kind that are named.
pub const BREACHES_MAX: i64 = 20;

type Breaches = sqlx::Result<Vec<String>>;

/// Seats that are in two holds or bookings that live.
pub async fn seats_taken_twice(db: &PgPool, show_id: Uuid) -> Breaches {
    sqlx::query_scalar!(
        r#"select format('seat %s is in the holds %s', seats.label,
                string_agg(hold_seats.hold_id::text, ', ')) as "breach!"
        from hold_seats
        join holds on holds.show_id = hold_seats.show_id and holds.hold_id = hold_seats.hold_id
        join seats on seats.show_id = hold_seats.show_id and seats.seat_no = hold_seats.seat_no
        where hold_seats.show_id = $1
            and (hold_seats.released_at is null or holds.state in ('held', 'confirmed'))
        group by seats.seat_no, seats.label
        having count(*) > 1
        order by seats.seat_no
        limit $2"#,
        show_id,
        BREACHES_MAX
    )
    .fetch_all(db)
    .await
}

/// Seats whose status does not say what the holds say.
pub async fn seats_unlike_holds(db: &PgPool, show_id: Uuid) -> Breaches {
    sqlx::query_scalar!(
        r#"with taken as (
            select hold_seats.seat_no, hold_seats.hold_id, holds.state
            from hold_seats
            join holds on holds.show_id = hold_seats.show_id and holds.hold_id = hold_seats.hold_id
            where hold_seats.show_id = $1 and hold_seats.released_at is null
        )
        select format('seat %s is %s by %s, but its live hold is %s and %s', seats.label,
                seats.status, coalesce(seats.hold_id::text, 'none'),
                coalesce(taken.hold_id::text, 'none'), coalesce(taken.state, 'absent')) as "breach!"
        from seats
        left join taken on taken.seat_no = seats.seat_no
        where seats.show_id = $1
            and (seats.hold_id is distinct from taken.hold_id
                or (seats.status = 'held') <> coalesce(taken.state = 'held', false)
                or (seats.status = 'booked') <> coalesce(taken.state = 'confirmed', false))
        order by seats.seat_no
        limit $2"#,
        show_id,
        BREACHES_MAX
    )
    .fetch_all(db)
    .await
}

/// Holds whose quantity, or whose seats' release, does not go with their state.
pub async fn holds_unlike_their_seats(db: &PgPool, show_id: Uuid) -> Breaches {
    sqlx::query_scalar!(
        r#"with seated as (
            select hold_id, count(*) as seats, count(*) filter (where released_at is null) as live
            from hold_seats
            where show_id = $1
            group by hold_id
        )
        select format('hold %s is %s of %s, with %s seats of which %s are not released',
                holds.hold_id, holds.state, holds.quantity, coalesce(seated.seats, 0),
                coalesce(seated.live, 0)) as "breach!"
        from holds
        left join seated on seated.hold_id = holds.hold_id
        where holds.show_id = $1
            and (coalesce(seated.seats, 0)
                    <> case when holds.section_no is null then holds.quantity else 0 end
                or coalesce(seated.live, 0)
                    <> case when holds.section_no is null and holds.state in ('held', 'confirmed')
                        then holds.quantity else 0 end)
        order by holds.position
        limit $2"#,
        show_id,
        BREACHES_MAX
    )
    .fetch_all(db)
    .await
}

/// Sections whose counters are not the sum of their holds, or above their capacity.
pub async fn sections_unlike_holds(db: &PgPool, show_id: Uuid) -> Breaches {
    sqlx::query_scalar!(
        r#"with taken as (
            select holds.section_no, holds.state, holds.quantity::bigint as quantity
            from holds
            where holds.show_id = $1 and holds.section_no is not null
            union all
            select seats.section_no, holds.state, 1
            from hold_seats
            join holds on holds.show_id = hold_seats.show_id and holds.hold_id = hold_seats.hold_id
            join seats on seats.show_id = hold_seats.show_id and seats.seat_no = hold_seats.seat_no
            where hold_seats.show_id = $1
        ), summed as (
            select section_no, coalesce(sum(quantity) filter (where state = 'held'), 0) as held,
                coalesce(sum(quantity) filter (where state = 'confirmed'), 0) as booked
            from taken
            group by section_no
        )
        select format('section %s of %s counts %s held and %s booked; its holds say %s and %s',
                sections.name, sections.capacity, sections.held, sections.booked,
                coalesce(summed.held, 0), coalesce(summed.booked, 0)) as "breach!"
        from sections
        left join summed on summed.section_no = sections.section_no
        where sections.show_id = $1
            and (sections.held <> coalesce(summed.held, 0)
                or sections.booked <> coalesce(summed.booked, 0)
                or coalesce(summed.held, 0) + coalesce(summed.booked, 0) > sections.capacity)
        order by sections.section_no
        limit $2"#,
        show_id,
        BREACHES_MAX
    )
    .fetch_all(db)
    .await
}

/// Buyers whose totals are not the sum of their holds, or above the limit.
pub async fn buyers_unlike_holds(db: &PgPool, show_id: Uuid) -> Breaches {
    sqlx::query_scalar!(
        r#"with summed as (
            select buyer_id, coalesce(sum(quantity) filter (where state = 'held'), 0) as held,
                coalesce(sum(quantity) filter (where state = 'confirmed'), 0) as booked
            from holds
            where show_id = $1
            group by buyer_id
        ), counted as (
            select buyer_id, held, booked
            from buyer_totals
            where show_id = $1
        )
        select format('buyer %s of limit %s counts %s held and %s booked; the holds say %s and %s',
                coalesce(summed.buyer_id, counted.buyer_id), shows.buyer_limit,
                coalesce(counted.held, 0), coalesce(counted.booked, 0), coalesce(summed.held, 0),
                coalesce(summed.booked, 0)) as "breach!"
        from summed
        full join counted on counted.buyer_id = summed.buyer_id
        join shows on shows.show_id = $1
        where coalesce(counted.held, 0) <> coalesce(summed.held, 0)
            or coalesce(counted.booked, 0) <> coalesce(summed.booked, 0)
            or coalesce(summed.held, 0) + coalesce(summed.booked, 0) > shows.buyer_limit
        order by 1
        limit $2"#,
        show_id,
        BREACHES_MAX
    )
    .fetch_all(db)
    .await
}

/// Gaps and doubles in the positions, and cursors that are ahead of the log.
pub async fn positions_with_gaps(db: &PgPool, show_id: Uuid) -> Breaches {
    sqlx::query_scalar!(
        r#"with log as (
            select count(*) as requests, count(distinct position) as positions,
                coalesce(min(position), 1) as first, coalesce(max(position), 0) as last
            from booking_requests
            where show_id = $1
        )
        select format('%s requests from position %s to %s, but %s were given and %s are decided',
                log.requests, log.first, log.last, show_intake.last_position,
                show_progress.decided_through) as "breach!"
        from show_intake
        join show_progress on show_progress.show_id = show_intake.show_id
        cross join log
        where show_intake.show_id = $1
            and (log.requests <> show_intake.last_position
                or log.positions <> log.requests
                or log.first <> 1
                or log.last <> show_intake.last_position
                or show_progress.decided_through > show_intake.last_position)
        limit $2"#,
        show_id,
        BREACHES_MAX
    )
    .fetch_all(db)
    .await
}

/// Requests of one buyer that have one idempotency key.
pub async fn keys_accepted_twice(db: &PgPool, show_id: Uuid) -> Breaches {
    sqlx::query_scalar!(
        r#"select format('key %s of buyer %s has the positions %s', idempotency_key, buyer_id,
                string_agg(position::text, ', ' order by position)) as "breach!"
        from booking_requests
        where show_id = $1
        group by buyer_id, idempotency_key
        having count(*) > 1
        order by min(position)
        limit $2"#,
        show_id,
        BREACHES_MAX
    )
    .fetch_all(db)
    .await
}

/// Positions with an outcome too few, too many, or without a request.
pub async fn outcomes_not_one_each(db: &PgPool, show_id: Uuid) -> Breaches {
    sqlx::query_scalar!(
        r#"with requests as (
            select position from booking_requests where show_id = $1
        ), decided as (
            select position, count(*) as outcomes from outcomes where show_id = $1 group by position
        )
        select format('position %s has %s outcomes and %s', coalesce(requests.position, decided.position),
                coalesce(decided.outcomes, 0),
                case when requests.position is null then 'no request' else 'is decided through' end)
            as "breach!"
        from requests
        full join decided on decided.position = requests.position
        join show_progress on show_progress.show_id = $1
        where requests.position is null
            or decided.outcomes > 1
            or (decided.position is null and requests.position <= show_progress.decided_through)
        order by coalesce(requests.position, decided.position)
        limit $2"#,
        show_id,
        BREACHES_MAX
    )
    .fetch_all(db)
    .await
}

/// Outcomes that are ahead of the cursor, other than of buyers who left the line.
pub async fn outcomes_ahead_of_the_line(db: &PgPool, show_id: Uuid) -> Breaches {
    sqlx::query_scalar!(
        r#"select format('position %s is %s, but the line is decided through %s', outcomes.position,
                outcomes.state, show_progress.decided_through) as "breach!"
        from show_progress
        join outcomes on outcomes.show_id = show_progress.show_id
            and outcomes.position > show_progress.decided_through
        where show_progress.show_id = $1 and outcomes.state <> 'cancelled'
        order by outcomes.position
        limit $2"#,
        show_id,
        BREACHES_MAX
    )
    .fetch_all(db)
    .await
}

/// Outcomes that are older than that of an earlier position, other than of buyers who left the line.
pub async fn outcomes_out_of_order(db: &PgPool, show_id: Uuid) -> Breaches {
    sqlx::query_scalar!(
        r#"with ordered as (
            select position, decided_at, max(decided_at) over (order by position) as latest
            from outcomes
            where show_id = $1 and state <> 'cancelled'
        )
        select format('position %s was decided at %s, an earlier position at %s', position,
                decided_at, latest) as "breach!"
        from ordered
        where decided_at < latest
        order by position
        limit $2"#,
        show_id,
        BREACHES_MAX
    )
    .fetch_all(db)
    .await
}

/// Held outcomes and holds that do not belong to each other, or to the buyer of the request.
pub async fn holds_unlike_outcomes(db: &PgPool, show_id: Uuid) -> Breaches {
    sqlx::query_scalar!(
        r#"with won as (
            select outcomes.position, outcomes.hold_id, booking_requests.buyer_id
            from outcomes
            left join booking_requests on booking_requests.show_id = outcomes.show_id
                and booking_requests.position = outcomes.position
            where outcomes.show_id = $1 and outcomes.state = 'held'
        ), kept as (
            select position, hold_id, buyer_id from holds where show_id = $1
        )
        select format('position %s of buyer %s won the hold %s; there is the hold %s of buyer %s',
                coalesce(won.position, kept.position), coalesce(won.buyer_id, 'nobody'),
                coalesce(won.hold_id::text, 'none'), coalesce(kept.hold_id::text, 'none'),
                coalesce(kept.buyer_id, 'nobody')) as "breach!"
        from won
        full join kept on kept.position = won.position
        where won.hold_id is distinct from kept.hold_id
            or won.buyer_id is distinct from kept.buyer_id
        order by coalesce(won.position, kept.position)
        limit $2"#,
        show_id,
        BREACHES_MAX
    )
    .fetch_all(db)
    .await
}

/// Holds whose total or fees are not those of what they hold, or above what the buyer would pay.
pub async fn totals_wrong(db: &PgPool, show_id: Uuid) -> Breaches {
    sqlx::query_scalar!(
        r#"with seated as (
            select hold_seats.hold_id,
                sum(coalesce(price_categories.price, sections.price)) as price,
                sum(coalesce(price_categories.fee, sections.fee)) as fees
            from hold_seats
            join seats on seats.show_id = hold_seats.show_id and seats.seat_no = hold_seats.seat_no
            join sections on sections.show_id = seats.show_id
                and sections.section_no = seats.section_no
            left join price_categories on price_categories.show_id = seats.show_id
                and price_categories.section_no = seats.section_no
                and price_categories.category_no = seats.category_no
            where hold_seats.show_id = $1
            group by hold_seats.hold_id
        ), priced as (
            select holds.position, holds.hold_id, holds.total, holds.fees as total_fees,
                coalesce(seated.price, sections.price * holds.quantity, 0) as price,
                coalesce(seated.fees, sections.fee * holds.quantity, 0) as fees,
                booking_requests.max_total
            from holds
            left join seated on seated.hold_id = holds.hold_id
            left join sections on sections.show_id = holds.show_id
                and sections.section_no = holds.section_no
            left join booking_requests on booking_requests.show_id = holds.show_id
                and booking_requests.position = holds.position
            where holds.show_id = $1
        )
        select format('hold %s costs %s with %s fees, its places %s with %s, its buyer would pay %s',
                hold_id, total, total_fees, price, fees, coalesce(max_total::text, 'anything'))
            as "breach!"
        from priced
        where total <> price or total_fees <> fees or total > max_total
        order by position
        limit $2"#,
        show_id,
        BREACHES_MAX
    )
    .fetch_all(db)
    .await
}

/// Confirmed holds without their one living booking, bookings without a hold that says so, and living
/// bookings of holds that are not confirmed. Only a cancelled hold may have a cancelled booking.
pub async fn bookings_unlike_holds(db: &PgPool, show_id: Uuid) -> Breaches {
    sqlx::query_scalar!(
        r#"with kept as (
            select hold_id, buyer_id, state from holds where show_id = $1
        ), booked as (
            select hold_id, min(buyer_id) as buyer_id, count(*) as bookings,
                count(*) filter (where state in ('pending', 'confirmed')) as live,
                count(*) filter (where state = 'cancelled') as cancelled
            from bookings
            where show_id = $1
            group by hold_id
        )
        select format('hold %s of buyer %s is %s and has %s bookings, of buyer %s, of which %s live',
                coalesce(kept.hold_id, booked.hold_id), coalesce(kept.buyer_id, 'nobody'),
                coalesce(kept.state, 'absent'), coalesce(booked.bookings, 0),
                coalesce(booked.buyer_id, 'nobody'), coalesce(booked.live, 0)) as "breach!"
        from kept
        full join booked on booked.hold_id = kept.hold_id
        where kept.hold_id is null
            or (kept.state = 'confirmed') <> (coalesce(booked.live, 0) = 1)
            or booked.bookings > 1
            or booked.bookings <> booked.live + booked.cancelled
            or (booked.cancelled > 0 and kept.state <> 'cancelled')
            or booked.buyer_id <> kept.buyer_id
        order by 1
        limit $2"#,
        show_id,
        BREACHES_MAX
    )
    .fetch_all(db)
    .await
}

/// How many accepted requests have no outcome, and which are the first of them.
pub async fn undecided(db: &PgPool, show_id: Uuid) -> sqlx::Result<(i64, Vec<i64>)> {
    let row = sqlx::query!(
        r#"with waiting as (
            select booking_requests.position
            from booking_requests
            left join outcomes on outcomes.show_id = booking_requests.show_id
                and outcomes.position = booking_requests.position
            where booking_requests.show_id = $1 and outcomes.position is null
        )
        select count(*) as "requests!",
            coalesce((array_agg(position order by position))[1:5], '{}') as "first!"
        from waiting"#,
        show_id
    )
    .fetch_one(db)
    .await?;
    Ok((row.requests, row.first))
}

/// One request with all that became of it, as the database has it.
#[derive(Debug, Clone)]
pub struct Account {
    pub position: i64,
    pub request_id: Uuid,
    pub buyer_id: String,
    pub accepted_at: DateTime<Utc>,
    /// The outcome's; `None` as long as there is none.
    pub state: Option<String>,
    pub reason: Option<String>,
    pub decided_at: Option<DateTime<Utc>>,
    pub hold_id: Option<Uuid>,
    pub hold_state: Option<String>,
    /// How long ago its time was over; below 0 while it is not.
    pub overdue_s: Option<f64>,
    /// It was booked after its time was over: its places are equal ones to those that it had.
    pub replaced: bool,
    pub quantity: Option<i32>,
    pub total: Option<i64>,
    pub fees: Option<i64>,
    /// The general-admission section's name.
    pub section: Option<String>,
    /// The labels of the hold's seats, in the order of the seat map.
    pub seats: Vec<String>,
    pub booking_id: Option<Uuid>,
    pub booking_state: Option<String>,
    /// Why the booking was cancelled.
    pub cancel_reason: Option<String>,
}

/// The next requests after a position, in order.
///
/// Labels are looked up one by one: without statistics, a join here reads all seats for each request.
pub async fn accounts(
    db: &PgPool,
    show_id: Uuid,
    after: i64,
    limit: i64,
) -> sqlx::Result<Vec<Account>> {
    sqlx::query_as!(
        Account,
        r#"select booking_requests.position, booking_requests.request_id,
            booking_requests.buyer_id, booking_requests.accepted_at, outcomes.state as "state?",
            outcomes.reason, outcomes.decided_at as "decided_at?", outcomes.hold_id,
            holds.state as "hold_state?",
            extract(epoch from now() - holds.kept_until)::double precision as overdue_s,
            coalesce(bookings.booked_at > holds.kept_until, false) as "replaced!",
            holds.quantity as "quantity?", holds.total as "total?",
            holds.fees as "fees?", sections.name as "section?",
            array(
                select (
                    select seats.label
                    from seats
                    where seats.show_id = $1 and seats.seat_no = hold_seats.seat_no
                )
                from hold_seats
                where hold_seats.show_id = $1 and hold_seats.hold_id = holds.hold_id
                order by hold_seats.seat_no
            ) as "seats!",
            bookings.booking_id as "booking_id?", bookings.state as "booking_state?",
            bookings.cancel_reason
        from booking_requests
        left join outcomes on outcomes.show_id = booking_requests.show_id
            and outcomes.position = booking_requests.position
        left join holds on holds.show_id = outcomes.show_id and holds.hold_id = outcomes.hold_id
        left join sections on sections.show_id = holds.show_id
            and sections.section_no = holds.section_no
        left join bookings on bookings.show_id = holds.show_id
            and bookings.hold_id = holds.hold_id
        where booking_requests.show_id = $1 and booking_requests.position > $2
        order by booking_requests.position
        limit $3"#,
        show_id,
        after,
        limit
    )
    .fetch_all(db)
    .await
}
