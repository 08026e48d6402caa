"""The command `inception-rcnn evaluate detections`, run from a clone."""

import sys

from detector.cli.main import main

if __name__ == "__main__":
    main(["evaluate", "detections", *sys.argv[1:]])
