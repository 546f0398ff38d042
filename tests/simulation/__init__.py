"""The whole scheduler on virtual time: the daemon's own code, seeded faults, and a checker after every
commit and every start of a command. ``python -m tests.simulation`` runs it; docs/reliability.md tells what is
real in it and what is modelled."""
