"""The command of detector/cli/propose.py, run from a clone."""

import sys

from detector.cli.app import run_tool
from detector.cli.propose import command_line

if __name__ == "__main__":
    run_tool(command_line(sys.argv[1:]))
