-- Where a file lies that is not in the blob folder: its name in the bucket. `there`: all of it has
-- been put there. `touched`: when somebody last was about to refer to it; for an hour from then on
-- it stays, whether anything refers to it or not.
ALTER TABLE blob ADD COLUMN object TEXT;
ALTER TABLE blob ADD COLUMN there INTEGER NOT NULL DEFAULT 1;
ALTER TABLE blob ADD COLUMN touched INTEGER NOT NULL DEFAULT 0;
CREATE INDEX blob_idle ON blob (touched) WHERE refs <= 0;

-- Names in the bucket that are to be deleted there.
CREATE TABLE stray (
    object TEXT PRIMARY KEY NOT NULL
) WITHOUT ROWID;

-- Files that events name and do not bring: what is to be fetched, and what became of it.
-- state: 0 to be fetched (not before `due`), 1 here (`sha256`), 2 given up (`problem`).
CREATE TABLE wanted_file (
    event    BLOB    PRIMARY KEY NOT NULL,
    instance BLOB    NOT NULL,
    seq      INTEGER NOT NULL,
    state    INTEGER NOT NULL,
    due      INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    sha256   BLOB,
    bytes    INTEGER,
    mime     TEXT,
    problem  TEXT
) WITHOUT ROWID;
CREATE INDEX wanted_file_due ON wanted_file (due) WHERE state = 0;
CREATE INDEX wanted_file_failed ON wanted_file (due) WHERE state = 2;
