"""The command of detector/cli/evaluate_proposals.py, run from a clone."""

from detector.cli.app import run_tool
from detector.cli.evaluate_proposals import main

if __name__ == "__main__":
    run_tool(main)
