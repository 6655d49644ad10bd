-- The line. The API locks show_intake to give positions, the worker locks show_progress to decide
-- them: in one row, every acceptance would wait for the worker's turn.

create table show_intake (
    show_id uuid primary key references shows,
    last_position bigint not null default 0,
    sale_state text not null default 'scheduled',
    sale_reason text,
    opens_at timestamptz,
    closes_at timestamptz,
    queue_limit integer not null,
    changed_at timestamptz not null,
    constraint show_intake_position_positive check (last_position >= 0),
    constraint show_intake_sale_state_known
        check (sale_state in ('scheduled', 'open', 'paused', 'closed')),
    constraint show_intake_queue_limit_range check (queue_limit between 1 and 10000000),
    constraint show_intake_times_ordered check (opens_at < closes_at)
);

create table show_progress (
    show_id uuid primary key references shows,
    decided_through bigint not null default 0,
    -- When the last turn of this show began: the least recently served show goes first.
    served_at timestamptz not null,
    -- Whether that turn left requests undecided; only then is the time since it time spent deciding.
    backlogged boolean not null default false,
    -- Smoothed; null until the first turn.
    decided_per_s double precision,
    constraint show_progress_position_positive check (decided_through >= 0)
);

-- The log: append-only, never updated. Positions are gapless and given under the show_intake lock,
-- so the order of commits is the order of positions. No foreign key: the locked row is the proof.
create table booking_requests (
    show_id uuid not null,
    position bigint not null,
    request_id uuid not null,
    buyer_id text not null,
    idempotency_key text not null,
    -- SHA-256 of the body: the same key with another body is a mistake of the caller.
    body_hash bytea not null,
    wishes json not null,
    max_total bigint,
    accepted_at timestamptz not null,
    primary key (show_id, position),
    constraint booking_requests_id_once unique (show_id, request_id),
    constraint booking_requests_key_once unique (show_id, buyer_id, idempotency_key),
    constraint booking_requests_position_positive check (position > 0)
);

-- What became of a position: append-only, one row each. Later states live on holds and bookings.
create table outcomes (
    show_id uuid not null,
    position bigint not null,
    state text not null,
    reason text,
    hold_id uuid,
    decided_at timestamptz not null,
    constraint outcomes_once primary key (show_id, position),
    constraint outcomes_state_known
        check (state in ('held', 'rejected', 'cancelled', 'quarantined')),
    constraint outcomes_held_by_a_hold check ((state = 'held') = (hold_id is not null)),
    constraint outcomes_rejected_with_a_reason check ((state = 'rejected') = (reason is not null))
);
