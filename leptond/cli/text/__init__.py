"""How jobs, GPUs and output read on a terminal."""
