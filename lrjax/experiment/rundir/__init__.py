"""What a run writes and reads: metrics, arrays, checkpoints, lanes, lock, sinks."""
