"""What follows an end: webhooks to deliver and output to copy."""
