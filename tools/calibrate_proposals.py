"""The command of detector/cli/calibrate_proposals.py, run from a clone."""

from detector.cli.app import run_tool
from detector.cli.calibrate_proposals import main

if __name__ == "__main__":
    run_tool(main)
