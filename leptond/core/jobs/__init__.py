"""What a job is: its values, states, times and arrays."""
