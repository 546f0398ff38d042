"""What every command stands on: declared options, the session, tables, and the bridge to click."""
