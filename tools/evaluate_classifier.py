"""The command `inception-rcnn evaluate classifier`, run from a clone."""

import sys

from detector.cli.main import main

if __name__ == "__main__":
    main(["evaluate", "classifier", *sys.argv[1:]])
