"""The commands `inception-rcnn propose`, run from a clone; without a name it is `propose run`."""

import sys

from detector.cli.main import COMMANDS, main

if __name__ == "__main__":
    name = [] if sys.argv[1:2] and sys.argv[1] in COMMANDS["propose"] else ["run"]
    main(["propose", *name, *sys.argv[1:]])
