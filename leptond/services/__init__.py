"""Work beside the queue, one run loop each: watching GPUs, receiving progress, copying output, sending
webhooks, keeping house."""
