"""A database put back together from what is left of it."""
