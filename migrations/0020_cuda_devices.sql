-- How CUDA_VISIBLE_DEVICES names a job's GPUs (NULL, in rows from before: by UUID).

ALTER TABLE jobs ADD COLUMN cuda_devices TEXT CHECK (cuda_devices IN ('uuid', 'index'));
ALTER TABLE folds ADD COLUMN cuda_devices TEXT CHECK (cuda_devices IN ('uuid', 'index'));
