"""The parts of tools/train_classifier.py: what goes in, one step, the loop, and what comes out."""
