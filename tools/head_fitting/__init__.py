"""The parts of tools/fit_heads.py; a training may fit heads, too."""
