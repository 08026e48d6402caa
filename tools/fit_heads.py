"""The command `inception-rcnn fit heads`, run from a clone."""

import sys

from detector.cli.main import main

if __name__ == "__main__":
    main(["fit", "heads", *sys.argv[1:]])
