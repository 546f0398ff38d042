"""Callbacks for training frameworks. Each module imports its framework; nothing else here does."""
