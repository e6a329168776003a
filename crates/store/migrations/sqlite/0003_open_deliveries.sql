-- The same rows as before. To evaluate a list of three, SQLite fills a temporary table for every
-- row that is written, whatever its status; a range is two comparisons.
DROP INDEX delivery_open;
CREATE INDEX delivery_open ON delivery (seq, destination, run, status)
    WHERE status BETWEEN 1 AND 3;
