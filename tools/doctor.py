"""The command of detector/cli/doctor.py, run from a clone."""

from detector.cli.app import run_tool
from detector.cli.doctor import main

if __name__ == "__main__":
    run_tool(main)
