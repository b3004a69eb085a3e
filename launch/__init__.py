"""The same command on a laptop, Slurm, a TPU slice, any cloud, Kubernetes: `python -m launch.jobs --help`."""
