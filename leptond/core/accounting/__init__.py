"""The ledger of GPU time, its cost, and budgets."""
