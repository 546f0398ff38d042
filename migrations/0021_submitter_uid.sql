-- The uid of the account that submitted a job, as the kernel or a token said: where jobs run as their submitters, it
-- has to be that of the account's name at the start too. NULL in rows from before: the name alone is known.

ALTER TABLE jobs ADD COLUMN uid INTEGER CHECK (uid >= 0);
ALTER TABLE folds ADD COLUMN uid INTEGER CHECK (uid >= 0);
