"""The base of every command: declared options, the session, tables, and the bridge to click."""
