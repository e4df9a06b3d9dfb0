"""Measurements beside llama.cpp and the machine's limits. `python -m benchmarks --help`."""
