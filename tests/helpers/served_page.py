"""Serves the page with the toy detector of coloured_squares: served_page.py BUNDLE PORT."""

import sys
from pathlib import Path

import coloured_squares

import detector.demo.page
import detector.detection.load
from detector.demo.lessons import Machine
from detector.demo.page import launch, make_page
from detector.models import ARCHITECTURES

if __name__ == "__main__":
    ARCHITECTURES["colours"] = coloured_squares.Colours
    detector.detection.load.build_engine = lambda engine, options: coloured_squares.Grid()
    detector.demo.page.FIRST = 0  # so that most regions follow later
    page = make_page(Machine(Path(sys.argv[1]), "cpu", 1))
    launch(page, "127.0.0.1", int(sys.argv[2]), browser=False)
