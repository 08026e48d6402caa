"""Fits that follow a training: fit_classes.py (new classes from a few boxes; class_*.py are its
parts), fit_heads.py (SVMs and box regression, on *_features.py), temperature.py, and suggest.py.
"""
