-- Webhooks: how far each has been told (an event is done with before its id is passed), and a log.
CREATE TABLE webhooks (
    name     TEXT    NOT NULL PRIMARY KEY,
    event_id INTEGER NOT NULL,
    results  TEXT    NOT NULL DEFAULT '{}' CHECK (json_valid(results))
) WITHOUT ROWID;

CREATE TABLE webhook_deliveries (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    hook     TEXT    NOT NULL,
    event_id INTEGER NOT NULL,
    event    TEXT    NOT NULL,
    at       REAL    NOT NULL,
    tries    INTEGER NOT NULL CHECK (tries >= 1),
    result   TEXT    NOT NULL CHECK (result IN ('delivered', 'refused', 'failed')),
    status   INTEGER,
    error    TEXT
);
CREATE INDEX webhook_deliveries_hook ON webhook_deliveries (hook, id);
