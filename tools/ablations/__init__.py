"""The tables of tools/ablate.py."""
