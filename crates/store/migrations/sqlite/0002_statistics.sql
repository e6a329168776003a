-- Figures per five minutes, a day of them. `slot` is the time in milliseconds divided by 300,000; it
-- comes first so that what is written together lies together, and what is old goes as a range.
CREATE TABLE delivery_slot (
    slot           INTEGER NOT NULL,
    destination    INTEGER NOT NULL,
    accepted       INTEGER NOT NULL,
    failed         INTEGER NOT NULL,
    dead           INTEGER NOT NULL,
    expired        INTEGER NOT NULL,
    last_delivered INTEGER,
    latencies      BLOB NOT NULL,
    PRIMARY KEY (slot, destination)
) STRICT, WITHOUT ROWID;

CREATE TABLE event_slot (
    slot     INTEGER NOT NULL,
    instance BLOB NOT NULL,
    events   INTEGER NOT NULL,
    PRIMARY KEY (slot, instance)
) STRICT, WITHOUT ROWID;
