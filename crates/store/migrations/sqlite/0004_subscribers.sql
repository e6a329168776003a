-- Where named subscribers stand. `id` is a hash of whose, which name, which dialect and filter;
-- `progress` is JSON: the highest position offered in each shard, and the positions at or below it
-- that are not done.
CREATE TABLE subscriber (
    id         BLOB PRIMARY KEY NOT NULL,
    account    BLOB,
    instance   BLOB,
    owner      TEXT NOT NULL,
    name       TEXT NOT NULL,
    dialect    TEXT NOT NULL,
    filter     TEXT NOT NULL,
    progress   BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    used_at    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX subscriber_instance ON subscriber (instance, used_at);
CREATE INDEX subscriber_account ON subscriber (account, used_at);
CREATE INDEX subscriber_used ON subscriber (used_at);

-- Tickets that open one connection each.
CREATE TABLE ticket (
    hash       BLOB PRIMARY KEY NOT NULL,
    pass       BLOB NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX ticket_expiry ON ticket (expires_at);
