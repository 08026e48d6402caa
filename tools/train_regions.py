"""The command of detector/cli/train_regions.py, run from a clone."""

from detector.cli.app import run_tool
from detector.cli.train_regions import main

if __name__ == "__main__":
    run_tool(main)
