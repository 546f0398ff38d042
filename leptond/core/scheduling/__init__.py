"""Who starts when, on which GPUs, and why the others wait."""
