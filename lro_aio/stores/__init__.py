"""Stores, one package per product. None imports another, and none is imported before it is used."""
