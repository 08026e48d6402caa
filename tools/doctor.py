"""The command `inception-rcnn doctor`, run from a clone."""

import sys

from detector.cli.main import main

if __name__ == "__main__":
    main(["doctor", *sys.argv[1:]])
