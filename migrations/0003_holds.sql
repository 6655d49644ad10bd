-- Who has what. A hold is of seats, or of a number of places in one general-admission section.

create table holds (
    show_id uuid not null references shows,
    hold_id uuid not null,
    position bigint not null,
    buyer_id text not null,
    state text not null,
    -- The general-admission section; null when the hold is of seats.
    section_no smallint,
    quantity integer not null,
    total bigint not null,
    expires_at timestamptz not null,
    created_at timestamptz not null,
    ended_at timestamptz,
    primary key (show_id, hold_id),
    foreign key (show_id, section_no) references sections,
    constraint holds_position_once unique (show_id, position),
    constraint holds_state_known check (state in ('held', 'confirmed', 'cancelled', 'expired')),
    constraint holds_ended_when_not_held check ((state = 'held') = (ended_at is null)),
    constraint holds_quantity_positive check (quantity > 0),
    constraint holds_total_positive check (total >= 0)
);

create index holds_due on holds (show_id, expires_at) where state = 'held';

-- The seats of a hold. A seat is in at most one hold or booking that lives.
create table hold_seats (
    show_id uuid not null,
    hold_id uuid not null,
    seat_no integer not null,
    released_at timestamptz,
    primary key (show_id, hold_id, seat_no),
    foreign key (show_id, hold_id) references holds,
    foreign key (show_id, seat_no) references seats
);

create unique index hold_seats_once on hold_seats (show_id, seat_no) where released_at is null;

create table bookings (
    show_id uuid not null,
    booking_id uuid not null,
    hold_id uuid not null,
    buyer_id text not null,
    booked_at timestamptz not null,
    primary key (show_id, booking_id),
    foreign key (show_id, hold_id) references holds,
    constraint bookings_once unique (show_id, hold_id)
);

-- Seats and places of a buyer, held and booked, against the show's limit.
create table buyer_totals (
    show_id uuid not null references shows,
    buyer_id text not null,
    held integer not null,
    booked integer not null,
    buyer_limit integer not null,
    primary key (show_id, buyer_id),
    constraint buyer_totals_positive check (held >= 0 and booked >= 0),
    constraint buyer_totals_within_limit check (held + booked <= buyer_limit)
);
