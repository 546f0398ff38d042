"""Databases as each release left them, as SQL text: the newest code must open every one of them."""
