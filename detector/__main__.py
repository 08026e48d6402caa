"""`python -m detector`: the command inception-rcnn where its script is not on the path."""

from detector.cli.main import main

if __name__ == "__main__":
    main()
