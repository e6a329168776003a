-- Small facts about the store itself: generation, the head at the last pruning. A backup leaves
-- the mark `copied` in its copy.
CREATE TABLE meta (
    name  TEXT PRIMARY KEY NOT NULL,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;

-- Each time it was restored from a backup: the head of the copy, the time of its last event, and
-- the first position from then on. What lies between the two belongs to another store.
CREATE TABLE generation (
    number           INTEGER PRIMARY KEY,
    old_head         INTEGER NOT NULL,
    first            INTEGER NOT NULL,
    last_received_at INTEGER NOT NULL,
    began_at         INTEGER NOT NULL
) STRICT;

-- Keys that have encrypted something here, each with a text it encrypted.
CREATE TABLE encryption_key (
    id    BLOB PRIMARY KEY NOT NULL,
    proof BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Event types by a number that never changes in this database, whatever the program calls them.
CREATE TABLE kind (
    number INTEGER PRIMARY KEY,
    name   TEXT NOT NULL UNIQUE
) STRICT;

-- `head` stands before the bodies so that looking at it does not read their pages.
CREATE TABLE journal (
    seq         INTEGER PRIMARY KEY,
    id          BLOB NOT NULL,
    instance    BLOB NOT NULL,
    received_at INTEGER NOT NULL,
    kind        INTEGER NOT NULL,
    flags       INTEGER NOT NULL,
    head        BLOB NOT NULL CHECK (length(head) <= 1048576),
    data        BLOB NOT NULL,
    raw         BLOB
) STRICT;
CREATE INDEX journal_instance ON journal (instance, seq);

-- Deduplication keys: the newest in order of arrival (found through memory), older ones in tables
-- of their own (dedup_<number>), sorted by hash and dropped whole.
CREATE TABLE dedup_recent (
    n    INTEGER PRIMARY KEY,
    hash BLOB NOT NULL,
    id   BLOB NOT NULL,
    seq  INTEGER NOT NULL
) STRICT;
CREATE TABLE dedup_segment (
    number   INTEGER PRIMARY KEY,
    newest   INTEGER NOT NULL,
    last_row INTEGER NOT NULL,
    filter   BLOB NOT NULL
) STRICT;

-- Whole upstream bodies of which some part was not understood: a row for each instance that one
-- has brought events of. One of several instances is hardly ever kept.
CREATE TABLE body (
    sha256      BLOB NOT NULL,
    instance    BLOB NOT NULL,
    first_seq   INTEGER NOT NULL,
    last_seq    INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    body        BLOB NOT NULL,
    PRIMARY KEY (sha256, instance)
) STRICT;
CREATE INDEX body_time ON body (received_at);
-- Erasing goes through an instance's bodies.
CREATE INDEX body_instance ON body (instance, last_seq);

-- Files of the blob folder that events refer to.
CREATE TABLE blob (
    sha256 BLOB PRIMARY KEY NOT NULL,
    bytes  INTEGER NOT NULL,
    refs   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE address_alias (
    instance BLOB NOT NULL,
    lid      TEXT NOT NULL,
    phone    TEXT NOT NULL,
    PRIMARY KEY (instance, lid, phone)
) STRICT, WITHOUT ROWID;
CREATE INDEX address_alias_phone ON address_alias (instance, phone);

CREATE TABLE account (
    id         BLOB PRIMARY KEY NOT NULL,
    name       TEXT NOT NULL UNIQUE,
    source     BLOB,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE instance (
    id         BLOB PRIMARY KEY NOT NULL,
    account    BLOB NOT NULL,
    name       TEXT NOT NULL,
    token      BLOB NOT NULL,
    token_hash BLOB NOT NULL,
    source     BLOB,
    route      TEXT,
    settings   TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    deleted_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX instance_name ON instance (account, name) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX instance_route ON instance (route, account)
    WHERE deleted_at IS NULL AND route IS NOT NULL;
CREATE INDEX instance_token ON instance (token_hash);
-- Where the account is not known.
CREATE INDEX instance_named ON instance (name) WHERE deleted_at IS NULL;

CREATE TABLE instance_state (
    instance      BLOB PRIMARY KEY NOT NULL,
    state         TEXT NOT NULL DEFAULT '{}',
    last_event_at INTEGER,
    pruned_upto   INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

-- A deleted destination stays until its rows have left the delivery log. `instance` is empty for a
-- global one.
CREATE TABLE destination (
    n                 INTEGER PRIMARY KEY AUTOINCREMENT,
    id                BLOB NOT NULL UNIQUE,
    account           BLOB NOT NULL,
    instance          BLOB NOT NULL,
    label             TEXT NOT NULL,
    filter            TEXT NOT NULL,
    exclude_ephemeral INTEGER NOT NULL,
    activity          TEXT NOT NULL,
    active            INTEGER NOT NULL,
    runs              INTEGER NOT NULL DEFAULT 0,
    created_at        INTEGER NOT NULL,
    updated_at        INTEGER NOT NULL,
    deleted_at        INTEGER
) STRICT;
CREATE UNIQUE INDEX destination_label ON destination (account, instance, label)
    WHERE deleted_at IS NULL;
-- With deleted ones: pruning asks whose rows belong to an event.
CREATE INDEX destination_owner ON destination (account, instance);
CREATE INDEX destination_deleted ON destination (deleted_at) WHERE deleted_at IS NOT NULL;

-- Apart from `destination` so that a start reads 100,000 of those without their configuration.
CREATE TABLE destination_spec (
    n    INTEGER PRIMARY KEY,
    spec BLOB NOT NULL
) STRICT;

-- Run 0 is live delivery: it has no end, no filter of its own and is always `running`.
CREATE TABLE lane (
    destination   INTEGER NOT NULL,
    run           INTEGER NOT NULL,
    cursor        INTEGER NOT NULL,
    probing_since INTEGER,
    probes        INTEGER NOT NULL DEFAULT 0,
    next_probe    INTEGER,
    state         TEXT NOT NULL DEFAULT 'running',
    from_seq      INTEGER NOT NULL DEFAULT 0,
    to_seq        INTEGER,
    filter        TEXT,
    created_at    INTEGER NOT NULL,
    PRIMARY KEY (destination, run)
) STRICT, WITHOUT ROWID;
CREATE INDEX lane_replay ON lane (destination, run) WHERE run > 0;

-- Status: 0 delivered, 1 retrying, 2 waiting, 3 dead, 4 cancelled, 5 expired.
CREATE TABLE delivery (
    n            INTEGER PRIMARY KEY,
    destination  INTEGER NOT NULL,
    run          INTEGER NOT NULL,
    seq          INTEGER NOT NULL,
    status       INTEGER NOT NULL,
    reason       INTEGER,
    due          INTEGER,
    upto         INTEGER,
    lost         INTEGER,
    attempts     INTEGER NOT NULL,
    parts_done   INTEGER NOT NULL,
    key          INTEGER NOT NULL,
    manual       INTEGER NOT NULL,
    code         INTEGER,
    latency_ms   INTEGER,
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    attempted_at INTEGER,
    error        TEXT,
    excerpt      BLOB
) STRICT;
CREATE UNIQUE INDEX delivery_event ON delivery (destination, run, seq);
CREATE INDEX delivery_due ON delivery (destination, run, due, seq) WHERE status = 1;
CREATE INDEX delivery_held ON delivery (destination, run, key, seq, status, manual)
    WHERE status IN (1, 2);
CREATE INDEX delivery_open ON delivery (seq, destination, run, status) WHERE status IN (1, 2, 3);
-- A count of a lane's dead letters; what is delivered costs nothing here.
CREATE INDEX delivery_dead ON delivery (destination, run) WHERE status = 3;

-- Attempts that failed. One that was accepted is in its delivery's row.
CREATE TABLE attempt (
    destination      INTEGER NOT NULL,
    run              INTEGER NOT NULL,
    seq              INTEGER NOT NULL,
    number           INTEGER NOT NULL,
    at               INTEGER NOT NULL,
    code             INTEGER,
    latency_ms       INTEGER NOT NULL,
    error            TEXT,
    excerpt          BLOB NOT NULL,
    request_headers  TEXT NOT NULL,
    response_headers TEXT NOT NULL,
    PRIMARY KEY (destination, run, seq, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE credential (
    id         BLOB PRIMARY KEY NOT NULL,
    role       TEXT NOT NULL,
    account    BLOB,
    instance   BLOB,
    name       TEXT NOT NULL,
    public_id  TEXT UNIQUE,
    created_at INTEGER NOT NULL,
    expires_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE TABLE credential_secret (
    hash       BLOB PRIMARY KEY NOT NULL,
    credential BLOB NOT NULL,
    expires_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX credential_secret_owner ON credential_secret (credential);

CREATE TABLE audit (
    id      BLOB PRIMARY KEY NOT NULL,
    at      INTEGER NOT NULL,
    account BLOB,
    actor   TEXT NOT NULL,
    action  TEXT NOT NULL,
    target  TEXT NOT NULL,
    detail  TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX audit_account ON audit (account, id);

-- Answers to creates, kept for a day under their Idempotency-Key.
CREATE TABLE answer (
    caller     TEXT NOT NULL,
    key        TEXT NOT NULL,
    request    BLOB NOT NULL,
    answer     BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (caller, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX answer_time ON answer (created_at);

CREATE TABLE setting (
    name  TEXT PRIMARY KEY NOT NULL,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO meta (name, value) VALUES ('generation', 1), ('head', 0), ('received_at', 0), ('pruned_upto', 0);
