"""What the end of an attempt means, and whether it is tried again."""
