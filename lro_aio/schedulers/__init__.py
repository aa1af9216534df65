"""Schedulers, which wake suspended operations when their time comes: one module per product."""
