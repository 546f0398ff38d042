-- Scripts as they were at the submit: each content once, for the jobs, array members and retries that run it. It
-- goes with the last job that needs it: while members of an array have no rows of their own, the first one stays.

CREATE TABLE scripts (
    sha256  TEXT NOT NULL PRIMARY KEY CHECK (length(sha256) = 64),
    content BLOB NOT NULL
) WITHOUT ROWID;

ALTER TABLE jobs ADD COLUMN script_sha256 TEXT;
ALTER TABLE folds ADD COLUMN script_sha256 TEXT;
CREATE INDEX jobs_script ON jobs (script_sha256) WHERE script_sha256 IS NOT NULL;
CREATE INDEX folds_script ON folds (script_sha256) WHERE script_sha256 IS NOT NULL;

CREATE TRIGGER scripts_go_with_their_jobs AFTER DELETE ON jobs
WHEN OLD.script_sha256 IS NOT NULL
     AND NOT EXISTS (SELECT 1 FROM jobs WHERE script_sha256 = OLD.script_sha256)
     AND NOT EXISTS (SELECT 1 FROM folds WHERE script_sha256 = OLD.script_sha256)
BEGIN
    DELETE FROM scripts WHERE sha256 = OLD.script_sha256;
END;

-- the files that a command names, as they were at the submit
ALTER TABLE jobs ADD COLUMN sources TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(sources));
ALTER TABLE folds ADD COLUMN sources TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(sources));

-- what the owner should know of an attempt, whatever became of it
ALTER TABLE attempts ADD COLUMN notes TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(notes));
