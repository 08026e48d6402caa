"""The command `inception-rcnn train multibox`, run from a clone."""

import sys

from detector.cli.main import main

if __name__ == "__main__":
    main(["train", "multibox", *sys.argv[1:]])
