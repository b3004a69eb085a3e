"""The tests of `lrjax.spectra`; they share `tests.spectra.problems`."""
