-- How old the oldest event is that a node's destinations still have to get, as it said with its last
-- sign of life.
ALTER TABLE node ADD COLUMN lag_ms bigint;
