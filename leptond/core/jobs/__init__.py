"""Jobs: their values, states, times and arrays."""
