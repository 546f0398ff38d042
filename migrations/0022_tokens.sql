-- Tokens of persons, and sessions of the page, which are tokens with a short life. The secret itself is stored
-- nowhere: it has 256 random bits, so that its SHA-256 tells nothing of it. A token that is revoked is deleted; the
-- events say when and by whom.

CREATE TABLE tokens (
    id           TEXT    NOT NULL PRIMARY KEY,  -- as lists show it; no secret
    kind         TEXT    NOT NULL CHECK (kind IN ('token', 'session')),
    sha256       TEXT    NOT NULL UNIQUE,
    name         TEXT    NOT NULL,
    user         TEXT    NOT NULL,
    uid          INTEGER,  -- NULL: a person without an account on this machine
    role         TEXT    NOT NULL CHECK (role IN ('viewer', 'user', 'operator', 'admin')),
    made_by      TEXT    NOT NULL,
    made_at      REAL    NOT NULL,
    expires_at   REAL    NOT NULL,
    last_used_at REAL
);
