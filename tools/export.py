"""The command `inception-rcnn data convert`, run from a clone."""

import sys

from detector.cli.main import main

if __name__ == "__main__":
    main(["data", "convert", *sys.argv[1:]])
