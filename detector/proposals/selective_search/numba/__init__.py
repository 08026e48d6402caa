"""Compiled kernels: the same integers as the readable modules one folder up, much faster."""
