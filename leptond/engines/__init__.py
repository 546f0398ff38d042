"""Where attempts run. `local` is this machine."""
