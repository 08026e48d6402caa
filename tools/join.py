"""The command `inception-rcnn bundle join`, run from a clone."""

import sys

from detector.cli.main import main

if __name__ == "__main__":
    main(["bundle", "join", *sys.argv[1:]])
