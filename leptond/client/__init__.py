"""The Python side of the API: transport, clients, executor. It never imports the command line or the
daemon."""
