"""The measurements of benchmarks/bench.py, one file a subject."""
