-- Whom to tell about a job: free text of its owner (an address, a channel). Lists are narrowed by it.

ALTER TABLE jobs ADD COLUMN contact TEXT CHECK (length(contact) BETWEEN 1 AND 256);
ALTER TABLE folds ADD COLUMN contact TEXT CHECK (length(contact) BETWEEN 1 AND 256);
CREATE INDEX jobs_contact ON jobs (contact, id) WHERE contact IS NOT NULL;
