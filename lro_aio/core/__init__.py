"""The pure part: the row of an operation and every rule of its life. No I/O, no clock, no asyncio."""
