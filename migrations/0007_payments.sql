-- From hold to booking: payments, and what a show says about them.

alter table shows
    -- Whether a hold that costs something is paid at a gateway, or confirmed as it is.
    add column payment_policy text not null default 'required',
    -- Until when buyers may cancel and get their money back; null: only operators can.
    add column refundable_until timestamptz,
    add constraint shows_payment_policy_known check (payment_policy in ('required', 'complimentary'));

-- A cancelled show books nothing more and gives everything back.
alter table show_inventory
    add column cancelled_at timestamptz,
    add column cancel_reason text,
    add constraint show_inventory_cancelled_with_a_reason
        check ((cancelled_at is null) = (cancel_reason is null));

-- When the seats are let go: expires_at, which the buyer was told, or later while a payment is in
-- flight.
alter table holds add column kept_until timestamptz;
update holds set kept_until = expires_at;
alter table holds
    alter column kept_until set not null,
    add constraint holds_kept_until_they_expire check (kept_until >= expires_at);
drop index holds_due;
create index holds_due on holds (show_id, kept_until) where state = 'held';

-- A try to pay for a hold. It moves only under the show_inventory lock of its show.
create table payments (
    show_id uuid not null references shows,
    payment_id uuid not null,
    hold_id uuid not null,
    buyer_id text not null,
    idempotency_key text not null,
    -- SHA-256 of the hold and the body: the same key for something else is a mistake of the caller.
    body_hash bytea not null,
    -- `none` when there was nothing to pay.
    gateway text not null,
    -- The gateway's token for the buyer's means of payment.
    payment_method text not null,
    amount bigint not null,
    currency text not null,
    state text not null,
    -- The gateway's id of the charge, once it is known.
    charge_id text,
    -- Where the buyer goes for a further step.
    next_action text,
    -- Why it was declined, voided, refunded, or failed.
    reason text,
    created_at timestamptz not null,
    moved_at timestamptz not null,
    -- When it is looked up at the gateway if nothing has moved it; null when nothing is left to do.
    recover_at timestamptz,
    recoveries integer not null default 0,
    primary key (show_id, payment_id),
    foreign key (show_id, hold_id) references holds,
    constraint payments_key_once unique (show_id, buyer_id, idempotency_key),
    constraint payments_state_known check (state in (
        'created', 'authorized', 'capturing', 'captured', 'refunding', 'refunded', 'declined',
        'voided', 'failed'
    )),
    constraint payments_amount_positive check (amount >= 0),
    constraint payments_free_without_a_gateway check (gateway <> 'none' or charge_id is null),
    constraint payments_recovered_until_final
        check (state not in ('created', 'authorized', 'capturing', 'refunding') or recover_at is not null)
);

-- A hold is paid once: one payment that is in flight or took the money.
create unique index payments_once on payments (show_id, hold_id)
    where state in ('created', 'authorized', 'capturing', 'captured');

create index payments_of_holds on payments (show_id, hold_id, payment_id);
create index payments_to_recover on payments (show_id, recover_at) where recover_at is not null;

alter table bookings
    -- Null for a booking that is older than payments.
    add column payment_id uuid,
    -- pending: the seats are the buyer's, the money is being taken.
    add column state text not null default 'confirmed',
    add column confirmed_at timestamptz,
    add column cancelled_at timestamptz,
    add column cancelled_by text,
    add column cancel_reason text,
    add column cancel_key text,
    add foreign key (show_id, payment_id) references payments,
    add constraint bookings_state_known check (state in ('pending', 'confirmed', 'cancelled')),
    add constraint bookings_cancelled_by_known
        check (cancelled_by in ('buyer', 'operator', 'gateway')),
    add constraint bookings_cancelled_with_a_reason check (
        (state = 'cancelled') = (cancelled_at is not null)
        and (cancelled_at is null) = (cancelled_by is null)
        and (cancelled_at is null) = (cancel_reason is null)
    );
update bookings set confirmed_at = booked_at;
create unique index bookings_cancel_key_once on bookings (show_id, buyer_id, cancel_key)
    where cancel_key is not null;

-- What gateways told, each event once.
create table gateway_events (
    show_id uuid not null,
    gateway text not null,
    event_id text not null,
    payment_id uuid not null,
    charge_id text not null,
    received_at timestamptz not null,
    -- Null until the payment was looked at because of it.
    applied_at timestamptz,
    constraint gateway_events_once primary key (show_id, gateway, event_id)
);

create index gateway_events_to_apply on gateway_events (show_id, received_at)
    where applied_at is null;

drop view request_status;
create view request_status as
select
    r.show_id,
    r.request_id,
    r.position,
    r.buyer_id,
    r.accepted_at,
    o.state as outcome,
    o.reason,
    o.decided_at,
    h.hold_id,
    h.state as hold_state,
    h.section_no,
    h.quantity,
    h.total,
    h.fees,
    h.expires_at,
    h.kept_until,
    array(
        select s.seat_no
        from hold_seats s
        where s.show_id = h.show_id and s.hold_id = h.hold_id
        order by s.seat_no
    ) as seats,
    b.booking_id,
    b.state as booking_state,
    b.booked_at,
    p.payment_id,
    p.state as payment_state,
    p.next_action as payment_next_action,
    p.reason as payment_reason
from booking_requests r
left join outcomes o on o.show_id = r.show_id and o.position = r.position
left join holds h on h.show_id = o.show_id and h.hold_id = o.hold_id
left join bookings b on b.show_id = h.show_id and b.hold_id = h.hold_id
left join lateral (
    -- The last try to pay. Without `offset 0` the planner walks the payments of the whole show in the
    -- order of their ids until it meets one of the hold: 0.4 ms a request, and growing.
    select *
    from (
        select payment_id, state, next_action, reason, created_at
        from payments
        where show_id = h.show_id and hold_id = h.hold_id
        offset 0
    ) tries
    order by created_at desc, payment_id desc
    limit 1
) p on true;
