"""The command `inception-rcnn fit temperature`, run from a clone."""

import sys

from detector.cli.main import main

if __name__ == "__main__":
    main(["fit", "temperature", *sys.argv[1:]])
