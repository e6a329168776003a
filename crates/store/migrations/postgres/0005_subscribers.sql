-- Where named subscribers stand. `id` is a hash of whose, which name, which dialect and filter;
-- `progress` is JSON: the highest position offered in each shard, and the positions at or below it
-- that are not done. Who writes says which version he has read, so that nobody holds a lock while
-- he thinks.
CREATE TABLE subscriber (
    id         bytea PRIMARY KEY,
    account    bytea,
    instance   bytea,
    owner      text NOT NULL,
    name       text NOT NULL,
    dialect    text NOT NULL,
    filter     text NOT NULL,
    progress   bytea NOT NULL,
    version    bigint NOT NULL DEFAULT 0,
    created_at bigint NOT NULL,
    used_at    bigint NOT NULL
);
CREATE INDEX subscriber_instance ON subscriber (instance, used_at);
CREATE INDEX subscriber_account ON subscriber (account, used_at);
CREATE INDEX subscriber_used ON subscriber (used_at);

-- Tickets that open one connection each.
CREATE TABLE ticket (
    hash       bytea PRIMARY KEY,
    pass       bytea NOT NULL,
    expires_at bigint NOT NULL
);
CREATE INDEX ticket_expiry ON ticket (expires_at);
