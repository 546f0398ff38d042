-- The ledger by the day, for days that are over and whose jobs have all ended: what long windows and counters
-- read, and what stays when the details are forgotten. price -1: none was known.
CREATE TABLE ledger_days (
    day      INTEGER NOT NULL, -- days since the epoch, UTC
    gpu_uuid TEXT    NOT NULL,
    user     TEXT    NOT NULL DEFAULT '', -- empty: nobody's
    project  TEXT    NOT NULL DEFAULT '',
    queue    TEXT    NOT NULL DEFAULT '',
    box      TEXT    NOT NULL,
    cause    TEXT    NOT NULL DEFAULT '',
    price    INTEGER NOT NULL DEFAULT -1,
    ms       INTEGER NOT NULL CHECK (ms > 0),
    PRIMARY KEY (day, gpu_uuid, user, project, queue, box, cause, price)
) WITHOUT ROWID;

-- held and idle, of attempts that ended: a counter that only grows
ALTER TABLE spend ADD COLUMN idle_ms INTEGER NOT NULL DEFAULT 0;
