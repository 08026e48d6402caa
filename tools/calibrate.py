"""The command `inception-rcnn fit int8`, run from a clone."""

import sys

from detector.cli.main import main

if __name__ == "__main__":
    main(["fit", "int8", *sys.argv[1:]])
