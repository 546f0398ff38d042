"""Where GPU time went, and what it cost."""
