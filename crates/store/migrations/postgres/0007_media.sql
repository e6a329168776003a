-- Where a file lies that is not in its row: its name in the bucket, or what its pieces in `blob_part`
-- are called. `there`: all of it has been put there. `touched`: when somebody last was about to refer
-- to it; for an hour from then on it stays, whether anything refers to it or not.
ALTER TABLE blob ALTER COLUMN content DROP NOT NULL;
ALTER TABLE blob ADD COLUMN object text;
ALTER TABLE blob ADD COLUMN there boolean NOT NULL DEFAULT true;
ALTER TABLE blob ADD COLUMN touched bigint NOT NULL DEFAULT 0;
CREATE INDEX blob_idle ON blob (touched) WHERE refs <= 0;

-- A large file without a bucket, in pieces, so that none has to be in memory as a whole.
CREATE TABLE blob_part (
    object  text  NOT NULL,
    n       int   NOT NULL,
    content bytea NOT NULL,
    PRIMARY KEY (object, n)
);
ALTER TABLE blob_part ALTER COLUMN content SET STORAGE EXTERNAL;

-- Names in the bucket, or of pieces, that are to be deleted.
CREATE TABLE stray (
    object text PRIMARY KEY
);

-- Files that events name and do not bring: what is to be fetched, and what became of it.
-- state: 0 to be fetched (not before `due`), 1 here (`sha256`), 2 given up (`problem`).
CREATE TABLE wanted_file (
    event    bytea  PRIMARY KEY,
    instance bytea  NOT NULL,
    shard    int    NOT NULL,
    seq      bigint NOT NULL,
    state    int    NOT NULL,
    due      bigint NOT NULL,
    attempts int    NOT NULL,
    sha256   bytea,
    bytes    bigint,
    mime     text,
    problem  text
);
CREATE INDEX wanted_file_due ON wanted_file (due) WHERE state = 0;
CREATE INDEX wanted_file_failed ON wanted_file (due) WHERE state = 2;
