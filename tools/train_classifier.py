"""The command of detector/cli/train_classifier.py, run from a clone."""

from detector.cli.app import run_tool
from detector.cli.train_classifier import main

if __name__ == "__main__":
    run_tool(main)
