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
