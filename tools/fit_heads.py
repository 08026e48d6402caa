"""The command of detector/cli/fit_heads.py, run from a clone."""

from detector.cli.app import run_tool
from detector.cli.fit_heads import main

if __name__ == "__main__":
    run_tool(main)
