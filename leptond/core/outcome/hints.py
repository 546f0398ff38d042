"""Hints in the evidence of an attempt, which stand beside its class and have not chosen it. Standard library
alone: the command line shows them."""

EARLIER = "earlier in its output: "
"""Begins the evidence about an error line that the job survived."""
