"""The pure core: values in, decisions out. No I/O, no asyncio, no SQL."""
