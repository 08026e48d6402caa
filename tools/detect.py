"""The command `inception-rcnn detect`, run from a clone."""

import sys

from detector.cli.main import main

if __name__ == "__main__":
    main(["detect", *sys.argv[1:]])
