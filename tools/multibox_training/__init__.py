"""The parts of tools/train_multibox.py: settings, what goes in, one step, and what comes out."""
