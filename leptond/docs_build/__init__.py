"""Generators of documentation from the program. Nothing that runs for a user imports them."""
