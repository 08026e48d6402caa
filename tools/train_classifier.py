"""The command `inception-rcnn train classifier`, run from a clone."""

import sys

from detector.cli.main import main

if __name__ == "__main__":
    main(["train", "classifier", *sys.argv[1:]])
