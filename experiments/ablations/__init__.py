"""The tables of experiments/ablate.py."""
