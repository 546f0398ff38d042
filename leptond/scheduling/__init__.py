"""From a submit to a start, and from an end to the next start.

A submit is a commit; it wakes the scheduler (wakeup.py). A pass reads one snapshot and plans
(pass_reader.py), commits the claims (scheduler.py), and the supervisor opens the gates of the shims that wait
there (standby.py, supervisor.py).

An end is seen by the supervisor, which asks the hand-over for the successor (handover.py): that may go at
once, and is claimed in the commit of the end; the scheduler then skips its pass if it can.

Members of large arrays get their rows ahead of need (array_expander.py)."""
