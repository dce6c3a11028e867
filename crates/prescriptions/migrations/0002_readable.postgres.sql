-- The views of the first migration, which no row breaks: see the functions of the store.
CREATE OR REPLACE VIEW prescriptions_view AS
SELECT source, document, malote_jsonb(partner_params) AS partner_params, email, state, reason,
       malote_numeric(right_spherical) AS right_spherical, malote_numeric(right_cylindrical) AS right_cylindrical,
       malote_numeric(right_axis) AS right_axis, malote_numeric(right_add) AS right_add,
       malote_numeric(left_spherical) AS left_spherical, malote_numeric(left_cylindrical) AS left_cylindrical,
       malote_numeric(left_axis) AS left_axis, malote_numeric(left_add) AS left_add,
       malote_jsonb(files) AS files, malote_time(state_order) AS state_since, first_event
FROM prescriptions;

CREATE OR REPLACE VIEW prescription_history_view AS
SELECT event_id, source, document, partner_hash, topic, state, reason, files,
       malote_time(received_at) AS received_at
FROM prescription_history;
