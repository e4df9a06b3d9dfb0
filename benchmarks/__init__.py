"""Whole processes, and codecs: `python -m benchmarks --help`. `puna bench` measures models and kernels."""
