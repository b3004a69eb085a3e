"""Config files and overrides, axes of a sweep, durations, optimizers, plugins."""
