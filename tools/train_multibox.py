"""The command of detector/cli/train_multibox.py, run from a clone."""

from detector.cli.app import run_tool
from detector.cli.train_multibox import main

if __name__ == "__main__":
    run_tool(main)
