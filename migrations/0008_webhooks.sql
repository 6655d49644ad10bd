-- What integrators are told, and how far that is.

-- Their URLs.
create table webhook_endpoints (
    endpoint_id uuid primary key,
    url text not null,
    -- Signs each delivery, so it is kept as it is.
    secret text not null,
    -- The one before signs as well until then.
    previous_secret text,
    previous_until timestamptz,
    -- `*` for all, those of later versions among them.
    event_types text[] not null,
    -- Null: of all shows.
    only_show_id uuid,
    created_at timestamptz not null,
    -- Since when every delivery has failed.
    failing_since timestamptz,
    disabled_at timestamptz,
    disabled_reason text,
    constraint webhook_endpoints_url_length check (length(url) between 1 and 2000),
    constraint webhook_endpoints_want_something check (cardinality(event_types) > 0),
    constraint webhook_endpoints_previous_secret_ends
        check ((previous_secret is null) = (previous_until is null)),
    constraint webhook_endpoints_disabled_with_a_reason
        check ((disabled_at is null) = (disabled_reason is null))
);

-- Events in the order in which they were committed: written in the transaction that causes them, under
-- the show_inventory lock, and only if an endpoint wants them.
alter table show_inventory add column event_sequence bigint not null default 0;

create table outbox (
    show_id uuid not null references shows,
    sequence bigint not null,
    event_id uuid not null,
    event_type text not null,
    request_id uuid,
    booking_id uuid,
    data json not null,
    created_at timestamptz not null,
    primary key (show_id, sequence)
);

-- How far the events of a show have become deliveries: the row that the dispatcher locks.
create table outbox_progress (
    show_id uuid primary key references shows,
    dispatched_through bigint not null default 0
);
insert into outbox_progress (show_id) select show_id from shows;

-- An event on its way to an endpoint. It lives as long as its event.
create table webhook_deliveries (
    show_id uuid not null,
    delivery_id uuid not null,
    endpoint_id uuid not null,
    sequence bigint not null,
    state text not null,
    attempts integer not null default 0,
    -- When it is tried (again); null when nothing is left to do.
    due_at timestamptz,
    last_status integer,
    last_error text,
    created_at timestamptz not null,
    ended_at timestamptz,
    primary key (show_id, delivery_id),
    foreign key (show_id, sequence) references outbox,
    constraint webhook_deliveries_once unique (show_id, sequence, endpoint_id),
    constraint webhook_deliveries_state_known check (state in ('pending', 'delivered', 'failed')),
    constraint webhook_deliveries_due_while_pending check ((state = 'pending') = (due_at is not null)),
    constraint webhook_deliveries_ended_unless_pending
        check ((state = 'pending') = (ended_at is null))
);

create index webhook_deliveries_due on webhook_deliveries (show_id, endpoint_id, due_at, sequence)
    where due_at is not null;
create index webhook_deliveries_of_endpoints on webhook_deliveries (endpoint_id, delivery_id);

-- The deliveries of a show to an endpoint, which one job at a time works on.
create table webhook_streams (
    show_id uuid not null references shows,
    endpoint_id uuid not null,
    -- When there is something to deliver; null when nothing is left.
    due_at timestamptz,
    -- Until when a job has it: the lease, and which job it is.
    leased_until timestamptz,
    primary key (show_id, endpoint_id)
);

create index webhook_streams_of_endpoints on webhook_streams (endpoint_id, due_at);
