"""Convolution and pooling that are fast on a CPU, with derivatives of any order."""
