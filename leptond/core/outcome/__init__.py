"""The meaning of the end of an attempt, and the decision to try again."""
