"""Results in the layouts that other programs read."""
