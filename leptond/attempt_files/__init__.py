"""The files of an attempt: their names, and the only code that reads and writes them."""
