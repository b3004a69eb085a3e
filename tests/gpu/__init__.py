"""Right on this device? `python -m tests.gpu` compares it with float64 on the CPU; see `tests.gpu.table`."""
