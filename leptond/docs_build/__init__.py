"""What of the documentation is generated from the program. Nothing that runs for a user imports it."""
