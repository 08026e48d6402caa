"""The command `inception-rcnn fit ranking`, run from a clone."""

import sys

from detector.cli.main import main

if __name__ == "__main__":
    main(["fit", "ranking", *sys.argv[1:]])
