"""The command `inception-rcnn propose evaluate`, run from a clone."""

import sys

from detector.cli.main import main

if __name__ == "__main__":
    main(["propose", "evaluate", *sys.argv[1:]])
