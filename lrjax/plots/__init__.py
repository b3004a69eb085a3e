"""Figures from results and arrays; the only folder of the library that imports matplotlib."""
