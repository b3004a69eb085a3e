"""Files of a run: metrics, arrays, checkpoints, lanes, lock, sinks."""
