
-- For people who query by hand: measurements as numbers, documents as JSON, times as timestamps.
CREATE VIEW prescriptions_view AS
SELECT source, document, partner_params::jsonb AS partner_params, email, state, reason,
       right_spherical::numeric AS right_spherical, right_cylindrical::numeric AS right_cylindrical,
       right_axis::numeric AS right_axis, right_add::numeric AS right_add,
       left_spherical::numeric AS left_spherical, left_cylindrical::numeric AS left_cylindrical,
       left_axis::numeric AS left_axis, left_add::numeric AS left_add,
       files::jsonb AS files, timestamptz 'epoch' + state_order * interval '1 microsecond' AS state_since,
       first_event
FROM prescriptions;

CREATE VIEW prescription_history_view AS
SELECT event_id, source, document, partner_hash, topic, state, reason, files,
       timestamptz 'epoch' + received_at * interval '1 microsecond' AS received_at
FROM prescription_history;
