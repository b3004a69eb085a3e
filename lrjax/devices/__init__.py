"""Mesh and placement, several hosts, platform: what the library and the experiments share."""
