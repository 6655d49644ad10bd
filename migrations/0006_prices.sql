-- What a seat costs: the section's price, or that of one of its categories. A price is all-in; the fee
-- is the part of it that is fees. Shows and holds from before have no fees and no categories.

alter table sections
    add column fee bigint not null default 0,
    add constraint sections_fee_range check (fee between 0 and price);

-- Numbered by their place in their section, as seats and sections are.
create table price_categories (
    show_id uuid not null,
    section_no smallint not null,
    category_no smallint not null,
    name text not null,
    price bigint not null,
    fee bigint not null,
    primary key (show_id, section_no, category_no),
    foreign key (show_id, section_no) references sections,
    constraint price_categories_name_once unique (show_id, section_no, name),
    constraint price_categories_price_range check (price between 0 and 100000000),
    constraint price_categories_fee_range check (fee between 0 and price)
);

-- Null: the seat costs the section's price.
alter table seats
    add column category_no smallint,
    add constraint seats_category_of_their_section
        foreign key (show_id, section_no, category_no) references price_categories;

-- Fixed together with the total, of which it is a part.
alter table holds
    add column fees bigint not null default 0,
    add constraint holds_fees_within_total check (fees between 0 and total);

drop view request_status;

-- A request with what became of it, its hold and its booking: what the buyer is told.
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
    array(
        select s.seat_no
        from hold_seats s
        where s.show_id = h.show_id and s.hold_id = h.hold_id
        order by s.seat_no
    ) as seats,
    b.booking_id,
    b.booked_at
from booking_requests r
left join outcomes o on o.show_id = r.show_id and o.position = r.position
left join holds h on h.show_id = o.show_id and h.hold_id = o.hold_id
left join bookings b on b.show_id = h.show_id and b.hold_id = h.hold_id;
