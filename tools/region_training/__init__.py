"""The parts of tools/train_regions.py: what goes in, one step, and what comes out."""
