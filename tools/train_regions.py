"""The command `inception-rcnn train regions`, run from a clone."""

import sys

from detector.cli.main import main

if __name__ == "__main__":
    main(["train", "regions", *sys.argv[1:]])
