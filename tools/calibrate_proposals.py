"""The command `inception-rcnn fit proposals`, run from a clone."""

import sys

from detector.cli.main import main

if __name__ == "__main__":
    main(["fit", "proposals", *sys.argv[1:]])
