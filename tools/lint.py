"""The command `inception-rcnn data check`, run from a clone."""

import sys

from detector.cli.main import main

if __name__ == "__main__":
    main(["data", "check", *sys.argv[1:]])
