"""Detectors inside labelling tools: they propose the boxes, people correct them."""
