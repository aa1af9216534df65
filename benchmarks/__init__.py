"""Benchmarks: figures, not tests. Run them on a quiet machine; compare only within one run."""
