-- How the command of an attempt started: 'warm' (in a process that had its imports behind it), or
-- 'cold: ' and why; NULL where it did not start, and for attempts of earlier versions.

ALTER TABLE attempts ADD COLUMN start TEXT;
