"""What the sweep benchmark runs: one training, and the drivers of those who run many of them."""
