"""The command of detector/cli/detect.py, run from a clone."""

from detector.cli.app import run_tool
from detector.cli.detect import main

if __name__ == "__main__":
    run_tool(main)
