"""A config in, a run directory out."""
