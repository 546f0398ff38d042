-- Who takes the GPUs of a running attempt when it has ended well: named in advance, so that the word to go need
-- not wait for the disk. Its shim stands at its gate. One job may be named for several attempts: it follows the
-- first that ends. Its rows go when it is claimed.
CREATE TABLE successors (
    after      TEXT    NOT NULL PRIMARY KEY REFERENCES attempts (id) ON DELETE CASCADE,
    job_id     INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    number     INTEGER NOT NULL,
    attempt_id TEXT    NOT NULL,
    boot_id    TEXT    NOT NULL,
    shim_pid   INTEGER NOT NULL,
    shim_start INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX successors_job ON successors (job_id);
