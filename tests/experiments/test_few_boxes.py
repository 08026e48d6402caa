"""experiments/few_boxes.py on coloured squares."""

import few_boxes
import pytest
from coloured_squares import bundle, small_parts, voc  # noqa: F401 fixtures

from detector.cli.app import run_tool
from detector.datasets import read_dataset


def test_drawn_images_hold_the_boxes(voc):  # noqa: F811
    part = few_boxes.drawn(read_dataset(voc, "train"), "mug", 3, seed=0)
    assert len(part) == 3  # one mug in each
    assert {one.image_id for one in part.samples} != {
        one.image_id
        for one in few_boxes.drawn(read_dataset(voc, "train"), "mug", 3, seed=1).samples
    }


def test_both_tables_have_a_row_for_each_size(voc, bundle, capsys):  # noqa: F811
    given = ["--data", voc, "--name", "mug", "--draws", 1, "--test", "train", "--weights", bundle]
    for command, *options in (
        ("boxes", "--sizes", "5,6"),
        ("suggest", "--images", 6, "--each", 5, "--rounds", 2),
    ):
        with pytest.raises(SystemExit) as end:
            run_tool(few_boxes.app, [str(word) for word in (command, *given, *options)])
        assert not end.value.code
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 2
        assert all(line.startswith("mug") for line in lines)
