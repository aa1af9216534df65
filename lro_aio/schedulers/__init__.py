"""What brings suspended operations back at their time: one module per product."""
