-- Memory of the machine, and CPUs, that a job may use; and the most memory that an attempt has used.

ALTER TABLE jobs ADD COLUMN mem_bytes INTEGER CHECK (mem_bytes > 0);
ALTER TABLE jobs ADD COLUMN cpus INTEGER CHECK (cpus > 0);
ALTER TABLE folds ADD COLUMN mem_bytes INTEGER CHECK (mem_bytes > 0);
ALTER TABLE folds ADD COLUMN cpus INTEGER CHECK (cpus > 0);
ALTER TABLE attempts ADD COLUMN peak_mem_bytes INTEGER;
