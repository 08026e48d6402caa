"""Reading ILSVRC DET's layout: classes, coordinates, lists, halves, and what its images prove."""

from pathlib import Path

import pytest
from dataset_files import voc_object, voc_xml, write_ilsvrc, write_image

from detector.boxes import ilsvrc_from_xyxy
from detector.datasets import Dataset, read_dataset, read_ilsvrc
from detector.datasets.formats.ilsvrc import halves_of_val
from detector.datasets.formats.ilsvrc_lists import SYNSETS
from detector.errors import AnnotationError, DatasetError

ACCORDION, AIRPLANE, ANT = "n02672831", "n02691156", "n02219486"
BOX = (10, 20, 29, 39)
OF_2013 = "ILSVRC2013_train/n02672831/n02672831_7"
OF_2014 = "ILSVRC2014_train_0000/ILSVRC2014_train_00000005"


def by_id(dataset: Dataset) -> dict[str, object]:
    return {sample.image_id: sample for sample in dataset.samples}


def test_there_are_two_hundred_classes_in_the_order_of_their_ids() -> None:
    assert (
        len(SYNSETS) == len({one.wnid for one in SYNSETS}) == len({s.name for s in SYNSETS}) == 200
    )
    assert all(len(one.wnid) == 9 and one.wnid[1:].isdecimal() for one in SYNSETS)
    # The ends, as the development kit's own example prints them.
    assert [one.name for one in SYNSETS[:3]] == ["accordion", "airplane", "ant"]
    assert [one.name for one in SYNSETS[-2:]] == ["wine bottle", "zebra"]
    assert SYNSETS[57] == ("n02084071", "dog")
    # By name but for one pair.
    names = [one.name.lower() for one in SYNSETS]
    assert [i for i in range(199) if names[i] > names[i + 1]] == [names.index("bow tie")]


def test_pixels_count_from_zero_and_the_last_is_inside(tmp_path: Path) -> None:
    root = write_ilsvrc(tmp_path, {"v1": [(ACCORDION, (0, 0, 99, 79)), (ANT, (5, 5, 5, 9))]})
    (sample,) = read_ilsvrc(root).samples
    assert sample.annotations.boxes.tolist() == [[0, 0, 100, 80], [5, 5, 6, 10]]
    assert ilsvrc_from_xyxy(sample.annotations.boxes).tolist() == [[0, 0, 99, 79], [5, 5, 5, 9]]
    assert sample.annotations.labels.tolist() == [0, 2]
    assert (sample.image_id, sample.size, sample.index) == ("v1", (80, 100), 1)
    assert sample.path == root / "Data/DET/val/v1.JPEG"


def test_an_image_left_out_takes_no_number_from_those_after_it(tmp_path: Path) -> None:
    root = write_ilsvrc(tmp_path, {name: [(ANT, BOX)] for name in ("v1", "v2", "v3")})
    (root / "Data/DET/val/v2.JPEG").unlink()
    for text in ("v1 1\nv2 2\nv3 3\n", "v1\nv2\nv3\n"):
        (root / "ImageSets/DET/val.txt").write_text(text)
        assert read_ilsvrc(root).indices() == (1, 3)


def test_an_english_name_will_do(tmp_path: Path) -> None:
    root = write_ilsvrc(tmp_path, {"v1": [("tv or monitor", BOX), ("n99999999", BOX)]})
    dataset = read_ilsvrc(root)
    assert [dataset.classes[i] for i in dataset.samples[0].annotations.labels] == ["tv or monitor"]
    (dropped,) = dataset.dropped
    assert (dropped.file, dropped.id) == ("Annotations/DET/val/v1.xml", "object 2")
    assert dropped.rule == "unknown-class"


def test_val_is_annotated_for_every_class_and_gives_background(tmp_path: Path) -> None:
    (sample,) = read_ilsvrc(write_ilsvrc(tmp_path, {"v1": []})).samples
    assert (sample.annotated, sample.positives_only) == (None, False)


def test_a_training_image_gives_positives_only_and_proves_what_its_lists_say(
    tmp_path: Path,
) -> None:
    root = write_ilsvrc(
        tmp_path,
        {"v1": []},
        {OF_2013: [(ACCORDION, BOX)], OF_2014: [(ANT, BOX)], "ILSVRC2013_train_extra0/x": []},
        {
            "train_1": {OF_2013: 1, OF_2014: -1},
            "train_2": {OF_2013: 0, "ILSVRC2013_train_extra0/x": -1},
            "train_3": {OF_2013: -1, OF_2014: 1},
        },
    )
    found = by_id(read_ilsvrc(root, "train"))
    assert set(found) == {OF_2013, OF_2014}  # x is said to have nothing
    assert all(one.positives_only for one in found.values())  # type: ignore[attr-defined]
    assert found[OF_2013].annotated == {0, 2}  # type: ignore[attr-defined]
    assert found[OF_2014].annotated is None  # type: ignore[attr-defined]
    assert found[OF_2014].background_of == frozenset()  # type: ignore[attr-defined]
    indices = {name: one.index for name, one in found.items()}  # type: ignore[attr-defined]
    assert indices == {OF_2013: 1, OF_2014: 2}  # places in the list; second columns are labels


def test_the_lists_of_2013_name_no_folders(tmp_path: Path) -> None:
    root = write_ilsvrc(
        tmp_path,
        {"v1": []},
        {OF_2013: [(ACCORDION, BOX)]},
        {"train_pos_1": {"n02672831_7": 5}, "train_neg_2": {"n02672831_7": 6}},
    )
    for split in ("train", "train_pos_1"):
        (sample,) = read_ilsvrc(root, split).samples
        assert sample.path == root / f"Data/DET/train/{OF_2013}.JPEG"
        assert sample.annotated == {0, 1}
        assert len(sample.annotations) == 1


def test_the_kits_own_map_settles_the_order(tmp_path: Path) -> None:
    root = write_ilsvrc(tmp_path / "ILSVRC", {"v1": [(AIRPLANE, BOX)]})
    path = root / "devkit" / "data" / "map_det.txt"
    path.parent.mkdir(parents=True)
    path.write_text(f"{ANT} 2 ant\n{AIRPLANE} 1 air_plane\nn00000001 3 flower_bed\n")
    dataset = read_ilsvrc(root)
    assert dataset.classes == ("airplane", "ant", "flower bed")
    assert dataset.category_ids == (1, 2, 3)
    path.write_text(f"{ANT} 2 ant\n")
    with pytest.raises(AnnotationError, match="without a gap"):
        read_ilsvrc(root)


def balanced_tree(root: Path) -> Path:
    """Twelve images with one accordion each, four with an ant besides."""
    ant = (ANT, (40, 40, 60, 60))
    return write_ilsvrc(
        root, {f"v{i:02d}": [(ACCORDION, BOX)] + [ant] * (i % 3 == 0) for i in range(12)}
    )


def test_val_falls_into_two_balanced_halves(tmp_path: Path) -> None:
    root = balanced_tree(tmp_path)
    one, two = read_ilsvrc(root, "val1"), read_ilsvrc(root, "val2")
    val = read_ilsvrc(root, "val")
    assert {*by_id(one), *by_id(two)} == set(by_id(val))
    for half in (one, two):
        labels = [label for s in half.samples for label in s.annotations.labels.tolist()]
        assert (len(half), labels.count(0), labels.count(2)) == (6, 6, 2)
    assert list(by_id(one)) == list(by_id(read_ilsvrc(root, "val1")))  # twice the same
    assert halves_of_val(val).largest == 0.0
    assert one.name.endswith("/val1")
    assert one.indices() == tuple(int(s.image_id[1:]) + 1 for s in one.samples)  # those of val


def test_lists_of_halves_go_before_ours(tmp_path: Path) -> None:
    root = balanced_tree(tmp_path)
    (root / "ImageSets/DET/val1.txt").write_text("v03 4\nv07 8\n")
    assert read_ilsvrc(root, "val1").indices() == (4, 8)
    own = tmp_path / "mine.txt"
    own.write_text("v05\n")
    assert by_id(read_ilsvrc(root, str(own))).keys() == {"v05"}
    assert by_id(read_dataset(root, str(own))).keys() == {"v05"}


def test_an_unknown_list_names_the_known_ones(tmp_path: Path) -> None:
    root = write_ilsvrc(tmp_path, {"v1": []}, {OF_2013: []}, {"train_1": {OF_2013: 1}})
    with pytest.raises(DatasetError, match=r"it has: train, val, val1, val2$"):
        read_ilsvrc(root, "trainval")
    with pytest.raises(DatasetError, match="expected ILSVRC DET"):
        read_ilsvrc(tmp_path / "Data")


def test_an_image_without_objects_need_not_have_a_file(tmp_path: Path) -> None:
    root = write_ilsvrc(tmp_path, {"v1": [(ANT, BOX)], "v2": []})
    (root / "Annotations/DET/val/v2.xml").unlink()
    dataset = read_ilsvrc(root)
    assert [len(sample.annotations) for sample in dataset.samples] == [1, 0]
    assert dataset.dropped == ()


def test_annotations_that_were_never_unpacked_are_noticed(tmp_path: Path) -> None:
    root = write_ilsvrc(tmp_path, {"v1": [(ANT, BOX)]})
    (root / "Annotations/DET/val").rename(root / "Annotations/DET/elsewhere")
    with pytest.raises(
        DatasetError, match=r"1 x missing-annotation.*no folder Annotations/DET/val"
    ):
        read_ilsvrc(root)


def test_every_defect_is_named_by_file_and_rule(tmp_path: Path) -> None:
    good = [(ANT, BOX)]
    root = write_ilsvrc(tmp_path, {f"v{i}": good for i in range(6)})
    annotations = root / "Annotations/DET/val"
    (annotations / "v1.xml").write_text("<broken")
    (annotations / "v2.xml").write_text(voc_xml(voc_object(ANT, BOX), width=80, height=100))
    (annotations / "v3.xml").write_text(voc_xml(voc_object(ANT, (30, 20, 10, 40))))
    (root / "Data/DET/val/v4.JPEG").unlink()
    with (root / "ImageSets/DET/val.txt").open("a") as listing:
        listing.write("v0 7\n../../../v0 8\n")
    dataset = read_ilsvrc(root)
    assert by_id(dataset).keys() == {"v0", "v3", "v5"}
    assert {(one.file, one.id, one.rule) for one in dataset.dropped} == {
        ("Annotations/DET/val/v1.xml", "v1", "unreadable"),
        ("Annotations/DET/val/v2.xml", "v2", "wrong-size"),
        ("Annotations/DET/val/v3.xml", "object 1", "negative"),
        ("ImageSets/DET", "v4", "missing-image"),
        ("ImageSets/DET", "v0", "duplicate-image"),
        ("ImageSets/DET", "../../../v0", "unsafe-path"),
    }
    with pytest.raises(AnnotationError, match="leave it out"):
        read_ilsvrc(root, strict=True)


def test_test_images_are_read_and_prove_nothing(tmp_path: Path) -> None:
    root = write_ilsvrc(tmp_path, {"v1": []}, None, {"test": {"t1": 1}})
    write_image(root / "Data/DET/test/t1.JPEG")
    (sample,) = read_ilsvrc(root, "test").samples
    assert (sample.annotated, len(sample.annotations)) == (frozenset(), 0)
