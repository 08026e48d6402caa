"""The command of detector/cli/evaluate.py, run from a clone."""

from detector.cli.app import run_tool
from detector.cli.evaluate import main

if __name__ == "__main__":
    run_tool(main)
