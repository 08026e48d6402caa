"""What benchmarks/bench.py measures, one file a subject."""
