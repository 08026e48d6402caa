"""The parts of tools/fit_temperature.py."""
