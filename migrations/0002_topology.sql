-- What is known of each device's place: its memory node, the CPUs near it (as the kernel lists them), its
-- links (JSON, by the UUID of the other device), and, for a slice, the GPU that it is a part of.
ALTER TABLE gpus ADD COLUMN numa_node INTEGER;
ALTER TABLE gpus ADD COLUMN cpus TEXT;
ALTER TABLE gpus ADD COLUMN links TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(links));
ALTER TABLE gpus ADD COLUMN mig INTEGER NOT NULL DEFAULT 0 CHECK (mig IN (0, 1));
ALTER TABLE gpus ADD COLUMN board TEXT;
