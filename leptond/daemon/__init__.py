"""The parts put together: the only place that knows all of them."""
