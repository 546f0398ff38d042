"""The ledger of GPU time, budgets and counts."""
