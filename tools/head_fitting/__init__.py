"""The parts of tools/fit_heads.py."""
