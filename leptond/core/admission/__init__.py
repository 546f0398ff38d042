"""What may enter the queue, and through which queue."""
