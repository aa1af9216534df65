"""Asyncio toolkit for google.longrunning operations."""
