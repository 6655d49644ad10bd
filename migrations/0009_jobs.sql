-- What a worker does later says when: the row moves on before its job is pushed, so it is pushed once.

alter table show_inventory
    -- When the bookings of a cancelled show are to be cancelled (again); null: not begun.
    add column clear_at timestamptz,
    -- Since when a cancelled show has no booking and no hold.
    add column cleared_at timestamptz,
    add constraint show_inventory_cleared_when_cancelled
        check (cleared_at is null or cancelled_at is not null);

create index show_inventory_to_clear on show_inventory (show_id)
    where cancelled_at is not null and cleared_at is null;

-- When an event that is not applied yet is tried (again); null: not begun.
alter table gateway_events add column apply_at timestamptz;

-- What is left of a cancelled show. On the time, not the state: confirming a booking changes no index.
create index bookings_living on bookings (show_id, booking_id) where cancelled_at is null;

-- Late refunds, above all: reconciliation compares what moved lately, however old it is.
create index payments_moved_late on payments (show_id, moved_at, payment_id)
    where moved_at - created_at > interval '1 hour';

-- For an operator who looks for what failed among what was delivered.
create index webhook_deliveries_failed on webhook_deliveries (endpoint_id, delivery_id)
    where state = 'failed';

-- For what is thrown away by age.
create index gateway_events_by_age on gateway_events (show_id, received_at);
