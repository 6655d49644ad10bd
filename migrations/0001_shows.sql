-- What is for sale. Sections and seats are numbered by their place in the show's seat map: small
-- integers that index arrays in the worker. All other ids are UUIDv7 made in Rust.

create table shows (
    show_id uuid primary key,
    name text not null,
    currency text not null,
    buyer_limit integer not null,
    hold_seconds integer not null,
    created_at timestamptz not null,
    constraint shows_name_length check (length(name) between 1 and 200),
    constraint shows_currency_iso4217 check (currency ~ '^[A-Z]{3}$'),
    constraint shows_buyer_limit_range check (buyer_limit between 1 and 1000),
    constraint shows_hold_seconds_range check (hold_seconds between 1 and 86400)
);

create table sections (
    show_id uuid not null references shows,
    section_no smallint not null,
    name text not null,
    kind text not null,
    price bigint not null,
    capacity integer not null,
    held integer not null default 0,
    booked integer not null default 0,
    -- The inventory version of the last change, as in seats.
    version bigint not null,
    primary key (show_id, section_no),
    constraint sections_name_once unique (show_id, name),
    constraint sections_kind_known check (kind in ('seated', 'general_admission')),
    constraint sections_price_range check (price between 0 and 100000000),
    constraint sections_counters_positive check (held >= 0 and booked >= 0),
    constraint sections_not_oversold check (held + booked <= capacity)
);

create table seats (
    show_id uuid not null,
    seat_no integer not null,
    section_no smallint not null,
    label text not null,
    row_no integer not null,
    -- The place in the row. An aisle skips a number, so neighbours differ by one.
    row_seat smallint not null,
    -- Lower is better, within the section.
    rank integer not null,
    x real not null,
    y real not null,
    status text not null default 'available',
    hold_id uuid,
    version bigint not null,
    primary key (show_id, seat_no),
    foreign key (show_id, section_no) references sections,
    constraint seats_label_once unique (show_id, label),
    constraint seats_status_known check (status in ('available', 'held', 'booked', 'blocked')),
    constraint seats_taken_by_a_hold check ((status in ('held', 'booked')) = (hold_id is not null))
) with (fillfactor = 50); -- all status updates stay HOT (measured: 70 gives 91 %, 100 gives 57 %)

-- The row under whose lock the seats, sections, holds and totals of a show change. `version` counts
-- those changes; a seat or section carries the version of its own last one, so that a reader with
-- version v catches up by reading what is above v.
create table show_inventory (
    show_id uuid primary key references shows,
    version bigint not null default 0
);
