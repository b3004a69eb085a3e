"""Measurements, printed as ratios of what ran side by side in one process. Never asserted: machines are noisy."""
