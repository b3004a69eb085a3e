"""Figures from results and arrays, and what pages share; the only folder of the library that imports matplotlib."""
