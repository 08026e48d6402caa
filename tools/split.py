"""The command `inception-rcnn data split`, run from a clone."""

import sys

from detector.cli.main import main

if __name__ == "__main__":
    main(["data", "split", *sys.argv[1:]])
