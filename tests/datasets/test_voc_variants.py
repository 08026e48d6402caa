"""VOC's XML as other programs write it and put it: read as it is meant, or left out and counted."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from dataset_files import voc_object, voc_xml, write_image, write_voc

from detector.datasets import VOC_CLASSES, read_dataset, read_voc
from detector.datasets.check import lint
from detector.errors import AnnotationError, DatasetError

MUG = voc_xml(voc_object("mug"))


def write(root: Path, xml: Sequence[str], images: Sequence[str] = (), text: str = MUG) -> Path:
    for name in xml:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    for name in images:
        write_image(root / name)
    return root


def write_list(root: Path, text: str, name: str = "train") -> None:
    (root / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
    (root / "ImageSets" / "Main" / f"{name}.txt").write_text(text)


def ids(root: Path, split: str | None = None) -> list[str]:
    return [one.image_id for one in read_dataset(root, split).samples]


def defects(root: Path) -> dict[str, int]:
    return Counter(one.rule for one in lint(root, fast=True).defects)


@pytest.mark.parametrize(
    ("names", "lines", "expected"),
    [
        (["a1", "a2"], "a1.jpg\na2.JPG\n", ["a1", "a2"]),  # with extensions
        (["shot 1", "shot 2"], "shot 1\nshot 2\n", ["shot 1", "shot 2"]),
        (["shot 2020-12-16 16.42", "desk 1"], "desk 1\nshot 2020-12-16 16.42\n", None),
        (["a", "b"], "a 1\nb -1\n", ["a", "b"]),  # the development kit's lists of one class
        (["a", "b"], "a  0\r\nb  1\r\n", ["a", "b"]),
        (["shot 1", "shot"], "shot 1\n", ["shot 1"]),  # the whole line comes first
        (["shot", "other"], "shot 1\n", ["shot"]),
        (["IMG", "IMG 2"], "IMG 2\n", ["IMG 2"]),
        (["a b", "a"], "a b 1\n", ["a b"]),
        (["a", "b", "c"], "a 1\nb 2\nc 3\n", ["a", "b", "c"]),  # numbered, as tools/split.py does
        (["x", "y"], "JPEGImages/x.jpg\n./JPEGImages/y.jpg\n", ["x", "y"]),
        (["a"], "\n  a  \n\n", ["a"]),
        (["a", "b"], "a.xml\n/home/me/VOC/JPEGImages/b.jpg\n", ["a", "b"]),
    ],
)
def test_a_line_of_a_list_is_a_name_where_it_is_one(
    tmp_path: Path, names: list[str], lines: str, expected: list[str] | None
) -> None:
    root = write_voc(tmp_path, dict.fromkeys(names, MUG))
    write_list(root, lines)
    assert ids(root) == (expected or lines.split("\n")[:-1])
    assert read_dataset(root).dropped == ()
    assert defects(root) == {}


def test_a_number_behind_a_name_is_not_taken_for_another_image(tmp_path: Path) -> None:
    root = write_voc(tmp_path, dict.fromkeys(["IMG", "IMG 3"], MUG))
    write_list(root, "IMG 2\nIMG 3\nIMG 1 7\n")
    dataset = read_dataset(root)
    assert [one.image_id for one in dataset.samples] == ["IMG 3"]
    assert dataset.dropped_by_rule() == {"missing-annotation": 2} == defects(root)


LAYOUTS = [
    ("annots/{}.xml", "images/{}.jpg"),
    ("Annotations/{}.xml", "images/{}.jpg"),
    ("Annotations/{}.xml", "Images/{}.png"),
    ("annotations/xmls/{}.xml", "images/{}.jpg"),  # Oxford's pets
    ("annotations/{}.xml", "{}.jpg"),  # RectLabel
    ("labels/{}.xml", "pictures/{}.jpg"),
    ("xml/{}.XML", "img/{}.JPG"),
    ("Annotations/{}.xml", "Annotations/{}.jpg"),
    ("Annotations/day1/{}.xml", "JPEGImages/day1/{}.jpg"),  # CVAT, Datumaro
    ("Annotations/{}.xml", "JPEGImages/day1/{}.jpg"),
    ("Annotations/a/b/{}.xml", "images/a/b/{}.jpg"),
    ("photos/{}.xml", "photos/{}.jpg"),
    ("day1/{}.xml", "day1/{}.jpg"),
    ("{}.xml", "{}.jpg"),
]


@pytest.mark.parametrize(("xml", "image"), LAYOUTS)
def test_xml_and_images_that_plainly_belong_together(tmp_path: Path, xml: str, image: str) -> None:
    names = ["road0", "road1"]
    root = write(tmp_path, [xml.format(n) for n in names], [image.format(n) for n in names])
    dataset = read_dataset(root)
    assert [one.path.relative_to(root).as_posix() for one in dataset.samples] == [
        image.format(name) for name in names
    ]
    assert (dataset.classes, dataset.dropped) == (("mug",), ())
    report = lint(root, fast=True)
    assert (report.images, report.objects, defects(root)) == (2, 2, {})


@pytest.mark.parametrize(
    ("xml", "image"),
    [
        ("{}/{}{}.xml", "{}/{}{}.jpg"),  # Roboflow
        ("{}/annots/{}{}.xml", "{}/images/{}{}.jpg"),
        ("annotations/{}/{}{}.xml", "images/{}/{}{}.jpg"),
        ("Annotations/{}/{}{}.xml", "JPEGImages/{}/{}{}.jpg"),
    ],
)
def test_folders_that_are_splits(tmp_path: Path, xml: str, image: str) -> None:
    for split, count in (("train", 3), ("valid", 2)):
        write(
            tmp_path,
            [xml.format(split, split, i) for i in range(count)],
            [image.format(split, split, i) for i in range(count)],
            voc_xml(voc_object("bus" if split == "valid" else "car")),
        )
    assert ids(tmp_path, "train") == ["train0", "train1", "train2"]
    assert ids(tmp_path, "valid") == ids(tmp_path, "val") == ["valid0", "valid1"]
    assert read_dataset(tmp_path, "val").classes == ("bus", "car")  # of both, so that they agree
    with pytest.raises(DatasetError, match="name a split; it has: train, valid"):
        read_dataset(tmp_path)
    report = lint(tmp_path, fast=True)
    assert (report.images, defects(tmp_path)) == (5, {})


def test_subfolders_with_a_list(tmp_path: Path) -> None:
    names = ["day1/a", "day2/a", "day2/b"]
    write(tmp_path, [f"Annotations/{n}.xml" for n in names], [f"JPEGImages/{n}.jpg" for n in names])
    write_list(tmp_path, "day1/a\nday2/b.jpg\nb\na\n", "default")
    dataset = read_dataset(tmp_path, "default")
    assert [one.image_id for one in dataset.samples] == ["day1/a", "day2/b"]
    assert dataset.dropped_by_rule() == {"ambiguous-name": 1, "duplicate-image": 1}
    assert defects(tmp_path) == {"ambiguous-name": 1, "duplicate-image": 1}


def test_votts_lists_of_classes_are_one_list_a_split(tmp_path: Path) -> None:
    root = write_voc(tmp_path, dict.fromkeys("abc", MUG), split=None)
    write_list(root, "a.jpg 1\nb.jpg 1\n", "mug_train")
    write_list(root, "a.jpg -1\nb.jpg 1\n", "cup_train")
    write_list(root, "c.jpg 1\n", "mug_val")
    assert (ids(root, "train"), ids(root, "val")) == (["a", "b"], ["c"])
    assert defects(root) == {}
    write_list(root, "a\n", "train")  # CVAT has both: then those of classes are no splits
    write_list(root, "b\nc\n", "val")
    assert (ids(root, "train"), ids(root, "val")) == (["a"], ["b", "c"])


def test_an_xml_file_may_name_its_image(tmp_path: Path) -> None:
    root = write(tmp_path, [], ["images/road7.jpg", "images/road8.jpg"])
    for name, image in (("0001", "road7.jpg"), ("0002", "C:\\me\\road8.jpg"), ("0003", "road9")):
        text = voc_xml(f"<filename>{image}</filename>", voc_object("mug"))
        write(root, [f"Annotations/{name}.xml"], text=text)
    dataset = read_dataset(root)
    found = {one.image_id: one.path.name for one in dataset.samples}
    assert found == {"0001": "road7.jpg", "0002": "road8.jpg"}
    assert dataset.dropped_by_rule() == {"missing-image": 1} == defects(root)


def test_a_copied_file_name_takes_no_other_files_image(tmp_path: Path) -> None:
    root = write_voc(tmp_path, {"a": MUG, "b": voc_xml("<filename>a.jpg</filename>")})
    (root / "JPEGImages/b.jpg").unlink()
    assert ids(root) == ["a"]
    assert read_dataset(root).dropped_by_rule() == {"missing-image": 1} == defects(root)


def test_two_folders_of_the_same_names_are_told_apart_or_refused(tmp_path: Path) -> None:
    names = ["x0", "x1"]
    text = voc_xml("<filename>x0.jpg</filename>", voc_object("mug"))
    root = write(tmp_path, [f"annots/{n}.xml" for n in names], text=text)
    write(root, [], [f"masks/{n}.png" for n in names])
    write(root, [], [f"photos/{n}.jpg" for n in names])
    assert [one.path.parent.name for one in read_dataset(root).samples] == ["photos"] * 2
    write(root, [], [f"copies/{n}.jpg" for n in names])
    with pytest.raises(DatasetError, match="may lie in copies and in photos; call the right one"):
        read_dataset(root)


OTHER_SHAPES = [
    MUG.upper().replace("MUG", "mug"),
    MUG.replace("<annotation>", "<annotation xmlns='http://example.org/voc'>"),
    MUG.replace("<object>", "<objects><object>").replace("</object>", "</object></objects>"),
    MUG.replace("object>", "Object>"),
    MUG.replace("object>", "item>"),
    MUG.replace("annotation>", "annotations>"),
    f"<root>{MUG}</root>",
    f"<annotation><frame>{MUG}</frame></annotation>",
    '<annotation><box label="mug" xtl="1" ytl="2" xbr="9" ybr="9"/></annotation>',
    "<annotation><image><bounding_box><x>1</x></bounding_box></image></annotation>",
    '<annotations><image name="b.jpg"><box label="mug" xtl="1"/></image></annotations>',  # CVAT
    '<svg xmlns="http://www.w3.org/2000/svg"/>',
]


@pytest.mark.parametrize("text", OTHER_SHAPES)
def test_xml_of_another_shape_is_no_image_without_objects(tmp_path: Path, text: str) -> None:
    root = write_voc(tmp_path, {"a": MUG, "b": text}, split=None)
    dataset = read_dataset(root)
    assert [one.image_id for one in dataset.samples] == ["a"]
    assert dataset.dropped_by_rule() == {"unreadable": 1} == defects(root)


OTHER_OBJECTS = [
    "<object><name>mug</name><bndbox><x_min>1</x_min></bndbox></object>",
    "<object><name>mug</name><robndbox><cx>9</cx></robndbox></object>",
    "<object><name>mug</name><polygon><x1>9</x1></polygon></object>",
    '<object name="mug"><bndbox xmin="1" ymin="1" xmax="9" ymax="9"/></object>',
    voc_object("mug", (40, 40, 50, 50)).replace(
        "</object>", "<bndbox><xmin>1</xmin></bndbox></object>"
    ),
    voc_object("mug", ("11,5", 1, 30, 40)),
    voc_object("mug", (40, 1, 30, 40)),
    voc_object("x" * 300, (1, 1, 30, 40)),
]


@pytest.mark.parametrize("text", OTHER_OBJECTS)
def test_an_object_that_is_not_understood_makes_nothing_background(
    tmp_path: Path, text: str
) -> None:
    root = write_voc(tmp_path, {"a": voc_xml(voc_object("mug"), text), "b": MUG, "c": voc_xml()})
    dataset = read_dataset(root)
    assert sum(dataset.dropped_by_rule().values()) == 1 == sum(defects(root).values())
    assert [(len(one.annotations), one.positives_only) for one in dataset.samples] == [
        (1, True), (1, False), (0, False),
    ]  # fmt: skip


KIT = ("<folder>VOC2007</folder>", "<source><database>The VOC2007 Database</database></source>")


@pytest.mark.parametrize(
    ("head", "names", "classes"),
    [
        ("", ["bus", "car"], ("bus", "car")),
        ("<folder>JPEGImages</folder>", ["person"], ("person",)),
        (KIT[0], ["bus", "car"], VOC_CLASSES),
        (KIT[1], ["bus", "car"], VOC_CLASSES),
        (KIT[0], ["bus", "zebra"], ("bus", "zebra")),
        ("", VOC_CLASSES[:10], VOC_CLASSES),
        ("", VOC_CLASSES[:9], VOC_CLASSES[:9]),
        ("", [*VOC_CLASSES, "zebra"], (*VOC_CLASSES, "zebra")),
    ],
)
def test_the_class_list_is_vocs_where_it_plainly_is_voc(
    tmp_path: Path, head: str, names: Sequence[str], classes: Sequence[str]
) -> None:
    texts = {f"i{i}": voc_xml(head, voc_object(name)) for i, name in enumerate(names)}
    root = write_voc(tmp_path, texts, "trainval")
    write_list(root, "i0\n", "train")
    write_list(root, "\n".join([*texts][1:]) or "i0", "val")
    for split in ("train", "val", "trainval"):  # the list is the set's, not the split's
        assert read_voc(root, split).classes == tuple(classes)
    if "zebra" not in names or len(names) < 10:
        assert lint(root, fast=True).classes == tuple(classes)


@pytest.mark.parametrize(
    "pair", [("Ka\u0308se", "K\u00e4se"), ("big  cup", "big cup"), ("cup", " cup\n")]
)
def test_two_spellings_of_one_class_are_one_class(tmp_path: Path, pair: tuple[str, str]) -> None:
    texts = {f"i{i}": voc_xml(voc_object(name)) for i, name in enumerate(pair)}
    dataset = read_dataset(write_voc(tmp_path, texts))
    assert len(dataset.classes) == 1
    assert [one.annotations.labels.tolist() for one in dataset.samples] == [[0], [0]]
    assert lint(tmp_path, fast=True).classes == dataset.classes


def test_composed_and_decomposed_accents_in_file_names_meet(tmp_path: Path) -> None:
    root = write(tmp_path, ["Annotations/Ka\u0308se.xml"], ["JPEGImages/K\u00e4se.jpg"])
    write_list(root, "K\u00e4se\n")
    assert len(ids(root)) == 1
    assert defects(root) == {}


@pytest.mark.skipif(os.name == "nt" or os.uname().sysname == "Darwin", reason="names are Unicode")
def test_a_file_whose_name_is_not_unicode_is_left_out(tmp_path: Path) -> None:
    root = write_voc(tmp_path, {"a": MUG}, split=None)
    raw = os.fsdecode(b"\xff")
    write(root, [f"Annotations/{raw}.xml"], [f"JPEGImages/{raw}.jpg"])
    dataset = read_dataset(root)
    assert [one.image_id for one in dataset.samples] == ["a"]
    assert dataset.dropped_by_rule() == {"unusable-name": 1} == defects(root)
    str(dataset.dropped[0]).encode()


def test_all_difficult_is_worth_a_note(tmp_path: Path) -> None:
    root = write_voc(tmp_path, {"a": voc_xml(voc_object("mug", difficult=1))})
    assert [one.rule for one in lint(root, fast=True).findings] == ["nothing-counts"]


def test_a_folder_called_images_comes_before_its_copies(tmp_path: Path) -> None:
    root = write(tmp_path, ["annots/a.xml"], ["images/a.jpg", "images_small/a.jpg"])
    assert [one.path.parent.name for one in read_dataset(root).samples] == ["images"]


def test_a_list_in_wide_characters_says_so(tmp_path: Path) -> None:
    root = write_voc(tmp_path, {"a": MUG})
    (root / "ImageSets/Main/train.txt").write_bytes("a\n".encode("utf-16"))
    with pytest.raises(AnnotationError, match=r"train\.txt: not UTF-8 text; save it as UTF-8"):
        read_dataset(root)
    assert defects(root) == {"not-utf8": 1}


@pytest.mark.parametrize(
    "text",
    [
        "<targets><target><class>mug</class><left>1</left><top>2</top><right>30</right>"
        "<bottom>40</bottom></target></targets>",
        '<target class="mug" left="1" top="2" right="30" bottom="40"/>',
        "<mug>11 21 30.5 40</mug>",
        "<left>1</left><top>2</top><right>30</right><bottom>40</bottom>",
    ],
)
def test_numbers_where_vocs_objects_are_missing_may_be_a_box(tmp_path: Path, text: str) -> None:
    root = write_voc(
        tmp_path, {"a": MUG, "b": voc_xml(text), "c": voc_xml(voc_object("mug"), text)}
    )
    assert (ids(root), read_dataset(root).dropped_by_rule()) == (["a", "c"], {"unreadable": 1})
    assert defects(root) == {"unreadable": 1}


def test_a_head_of_another_program_leaves_an_image_without_objects(tmp_path: Path) -> None:
    head = (
        "<imagesize><nrows>80</nrows><ncols>100</ncols></imagesize><source><flickrid>1</flickrid>"
        "</source><camera><gps>52.1, 13.4</gps><taken>2024-05-01 10:00:00</taken></camera>"
    )
    assert ids(write_voc(tmp_path, {"a": MUG, "b": voc_xml(head)})) == ["a", "b"]


@pytest.mark.parametrize(
    ("difficult", "expected"), [("True", True), ("true", True), ("1.0", True), ("Unknown", False)]
)
def test_difficult_in_words(tmp_path: Path, difficult: str, expected: bool) -> None:
    root = write_voc(tmp_path, {"a": voc_xml(voc_object("mug", difficult=difficult))})
    assert read_dataset(root).samples[0].annotations.difficult.tolist() == [expected]
    assert ("nothing-counts" in {one.rule for one in lint(root, fast=True).findings}) is expected
    assert defects(root) == {"bad-flag": 1}


@pytest.mark.parametrize("place", ["ImageSets/{}.txt", "{}.txt"])
@pytest.mark.parametrize(
    "line", ["{}.jpg", "JPEGImages/{}.jpg Annotations/{}.xml", "./JPEGImages/{}.jpg\t{}.xml"]
)
def test_lists_above_main_and_of_image_and_xml(tmp_path: Path, place: str, line: str) -> None:
    root = write_voc(tmp_path, dict.fromkeys(["a", "shot 1", "b"], MUG), split=None)
    (root / "ImageSets").mkdir()
    for split, names in (("train", ["a", "shot 1"]), ("val", ["b"])):
        text = "".join(line.replace("{}", name) + "\n" for name in names)
        (root / place.format(split)).write_text(text)
    assert (ids(root, "train"), ids(root, "val")) == (["a", "shot 1"], ["b"])
    assert defects(root) == {}
    write_list(root, "b\n")  # where the development kit has them, they are taken
    assert ids(root) == ["b"]


def test_other_texts_at_the_root_are_no_lists(tmp_path: Path) -> None:
    root = write_voc(tmp_path, dict.fromkeys("ab", MUG), split=None)
    (root / "test.txt").write_text("remember to label the rest\n")
    (root / "labels.txt").write_text("mug\n")
    assert ids(root) == ["a", "b"]


def test_a_list_that_gives_an_image_the_annotations_of_another_is_not_believed(
    tmp_path: Path,
) -> None:
    root = write_voc(tmp_path, dict.fromkeys("abc", MUG))
    write_list(root, "JPEGImages/a.jpg Annotations/b.xml\nc.jpg c.xml\nc.jpg gone.xml\n")
    dataset = read_dataset(root)
    assert [one.image_id for one in dataset.samples] == ["c"]
    assert dataset.dropped_by_rule() == {"ambiguous-name": 1, "missing-annotation": 1}
    assert defects(root) == {"ambiguous-name": 1, "missing-annotation": 1}
