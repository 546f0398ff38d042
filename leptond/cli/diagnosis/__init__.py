"""The checks of ``leptonctl doctor``."""
