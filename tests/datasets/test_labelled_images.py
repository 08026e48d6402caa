"""Labelled images: every layout becomes the same classes and files; what is left out is told."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

from detector.datasets.labelled.images import class_key, labelled_images
from detector.datasets.labelled.recognise import detect_layout, read_labelled
from detector.errors import DatasetError, ImageError


def jpeg(shade: int = 0) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, 0, 0)).save(file, "JPEG")
    return file.getvalue()


def put(path: Path, data: bytes | str = b"") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data or jpeg())


def pluralise(path: Path, split: str | None = None) -> dict[str, int]:
    images = read_labelled(path, split)
    return dict(zip(images.classes, images.per_class().tolist(), strict=True))


def test_a_folder_is_a_class_and_what_is_no_image_is_noted(tmp_path):
    for name in ("b/1.JPEG", "b/2.jfif", "a/1.jpg", ".hidden/1.jpg"):
        put(tmp_path / name)
    put(tmp_path / "b/notes.txt", "words")
    (tmp_path / "empty").mkdir()
    images = read_labelled(tmp_path)
    assert (images.classes, images.labels.tolist()) == (("a", "b"), [0, 1, 1])
    assert images.files == ("a/1.jpg", "b/1.JPEG", "b/2.jfif")
    assert images.read("a/1.jpg") == jpeg()
    assert images.skipped_by_rule() == {"empty-class": 1, "not-an-image": 1}


def test_splits_are_folders_or_tar_files(tmp_path):
    put(tmp_path / "x/train/a/images/1.jpg")  # Tiny-ImageNet's own layout
    put(tmp_path / "x/val/a/1.jpg")
    assert detect_layout(tmp_path / "x").splits == ("train", "val")
    assert pluralise(tmp_path / "x", "train") == {"a": 1}
    with pytest.raises(DatasetError, match="no split 'test'; it has: train, val"):
        read_labelled(tmp_path / "x", "test")
    with pytest.raises(DatasetError, match="name a split"):
        read_labelled(tmp_path / "x")


def test_tiny_imagenets_val_is_labelled_by_the_list_beside_its_images(tmp_path):
    for number in range(3):
        put(tmp_path / f"train/n0000000{number % 2}/images/{number}.JPEG")
        put(tmp_path / f"val/images/val_{number}.JPEG")
    lines = [f"val_{number}.JPEG\tn0000000{1 - number % 2}\t0\t1\t2\t3\n" for number in range(2)]
    lines += ["../val_2.JPEG\tn00000001\n", "\n", "val_9.JPEG n00000001 0 0 1 1\n"]
    put(tmp_path / "val/val_annotations.txt", "".join(lines))
    images = read_labelled(tmp_path, "val").under(read_labelled(tmp_path, "train").classes)
    assert images.files == ("images/val_0.JPEG", "images/val_1.JPEG")
    assert images.labels.tolist() == [1, 0]
    assert images.read(images.files[0]) == jpeg()
    assert images.skipped_by_rule() == {"missing-image": 2, "no-label": 1}


def test_what_was_looked_for_is_told(tmp_path):
    put(tmp_path / "photo.jpg")
    with pytest.raises(DatasetError, match=r"looked for .*CLS-LOC.*train\.tar.*one folder a class"):
        read_labelled(tmp_path)
    with pytest.raises(DatasetError, match="no such file"):
        read_labelled(tmp_path / "nowhere")


def write_tar(path: Path, names: list[str], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for shade, name in enumerate(names):
            member = tarfile.TarInfo(name)
            member.size = len(jpeg(shade))
            archive.addfile(member, io.BytesIO(jpeg(shade)))
        link = tarfile.TarInfo("a/link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return path


def test_a_tar_is_read_where_it_lies_and_only_regular_files_below_it(tmp_path):
    names = ["b/2.jpg", "a/1.jpg", "deep/b/3.jpg", "../a/4.jpg", "/a/5.jpg", "a/1.jpg", "6.jpg"]
    images = read_labelled(write_tar(tmp_path / "train.tar", [*names, "a/words.txt"]))
    assert images.files == ("a/1.jpg", "b/2.jpg", "deep/b/3.jpg")
    assert (images.classes, images.labels.tolist()) == (("a", "b"), [0, 1, 1])
    assert [images.read(file) for file in images.files] == [jpeg(1), jpeg(0), jpeg(2)]
    assert images.skipped_by_rule() == {
        "duplicate": 1, "no-class": 1, "not-a-file": 1, "not-an-image": 1, "unsafe-path": 2,
    }  # fmt: skip
    assert pluralise(tmp_path, "train") == {"a": 1, "b": 2}
    assert list(tmp_path.iterdir()) == [tmp_path / "train.tar"], "nothing is extracted"


def test_hidden_files_and_folders_of_images_in_a_tar_are_as_in_a_folder(tmp_path):
    names = ["./a/images/1.jpg", "./a/images/._1.jpg", "./images/2.jpg", ".git/b/3.jpg"]
    images = read_labelled(write_tar(tmp_path / "x.tar", names))
    assert (images.classes, images.files) == (
        ("a", "images"),
        ("./a/images/1.jpg", "./images/2.jpg"),
    )
    assert images.skipped_by_rule() == {"not-a-file": 1}


@pytest.mark.parametrize("top", ["", "./", "data/", "./deep/data/"])
def test_a_tar_of_images_and_masks_has_the_classes_of_its_folder(top, tmp_path):
    for name in ("images/1.png", "masks/1.png"):
        put(tmp_path / "folder" / name)
    tar = write_tar(tmp_path / "x.tar", [f"{top}images/1.png", f"{top}masks/1.png"])
    assert pluralise(tar) == pluralise(tmp_path / "folder") == {"images": 1, "masks": 1}
    tar = write_tar(tmp_path / "x.tar", [f"{top}a/images/1.jpg", f"{top}b/images/1.jpg"])
    assert pluralise(tar) == {"a": 1, "b": 1}


def test_a_compressed_or_cut_tar_is_an_error(tmp_path):
    with pytest.raises(DatasetError, match="must be unpacked"):
        read_labelled(write_tar(tmp_path / "x.tar.gz", ["a/1.jpg"], "w:gz"))
    path = write_tar(tmp_path / "x.tar", ["a/1.jpg"])
    images = read_labelled(path)
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(ImageError, match="ends inside"):
        images.read("a/1.jpg")


WNIDS = ("n01440764", "n01443537")


def ilsvrc(root: Path) -> Path:
    """Two classes in the official layout, without the truth of val (image 1 is the second)."""
    home = root / "ILSVRC" / "Data" / "CLS-LOC"
    for wnid in WNIDS:
        put(home / "train" / wnid / f"{wnid}_10.JPEG")
    for number in (1, 2):
        put(home / "val" / f"ILSVRC2012_val_{number:08d}.JPEG")
    return root


def of_kaggle(root: Path) -> None:
    rows = "ImageId,PredictionString\nILSVRC2012_val_00000001,n01443537 1 2 3 4 n01443537 5 6 7 8\n"
    put(root / "LOC_val_solution.csv", rows + "ILSVRC2012_val_00000002,n01440764 1 2 3 4\n")


def of_annotations(root: Path) -> None:
    for number, wnid in ((1, WNIDS[1]), (2, WNIDS[0])):
        xml = f"<annotation><object><name>{wnid}</name></object></annotation>"
        folder = root / "ILSVRC/Annotations/CLS-LOC/val"
        put(folder / f"ILSVRC2012_val_{number:08d}.xml", xml)


def of_the_devkit(root: Path) -> None:
    """The devkit numbers the classes in an order of its own."""
    folder = root / "ILSVRC2012_devkit_t12" / "data"
    put(folder / "ILSVRC2012_validation_ground_truth.txt", "1\n2\n")
    kinds = [("ILSVRC2012_ID", "O"), ("WNID", "O")]
    synsets = np.array([(1, WNIDS[1]), (2, WNIDS[0])], dtype=kinds)
    scipy.io.savemat(folder / "meta.mat", {"synsets": synsets})


@pytest.mark.parametrize("truth", [of_kaggle, of_annotations, of_the_devkit])
def test_ilsvrc_val_is_labelled_by_whichever_truth_there_is(truth, tmp_path):
    truth(ilsvrc(tmp_path))
    images = read_labelled(tmp_path, "val")
    assert images.classes == WNIDS
    assert images.labels.tolist() == [1, 0]
    assert images.read(images.files[0])


def test_ilsvrc_train_comes_from_its_folders_or_its_list(tmp_path):
    ilsvrc(tmp_path)
    assert pluralise(tmp_path, "train") == dict.fromkeys(WNIDS, 1)
    lists = tmp_path / "ILSVRC/ImageSets/CLS-LOC"
    put(lists / "train_cls.txt", f"{WNIDS[0]}/{WNIDS[0]}_10 1\n../x 2\n")
    images = read_labelled(tmp_path / "ILSVRC", "train")
    assert images.files == (f"{WNIDS[0]}/{WNIDS[0]}_10.JPEG",)
    assert images.skipped_by_rule() == {"unsafe-path": 1}


def test_ilsvrc_val_without_truth_says_what_would_do(tmp_path):
    with pytest.raises(DatasetError, match=r"LOC_val_solution\.csv.*meta\.mat"):
        read_labelled(ilsvrc(tmp_path), "val")
    put(tmp_path / "data/ILSVRC2012_validation_ground_truth.txt", "1\n")
    (tmp_path / "devkit").symlink_to(tmp_path / "data")
    put(tmp_path / "data/meta.mat", "no")
    with pytest.raises(DatasetError, match="do not fit"):
        read_labelled(tmp_path, "val")


def test_a_val_folder_sorted_into_classes_needs_no_truth(tmp_path):
    put(tmp_path / "Data/CLS-LOC/val/n01440764/1.JPEG")
    assert pluralise(tmp_path) == {"n01440764": 1}


@pytest.mark.parametrize(
    ("name", "key"),
    [("n01440764_tench", "n01440764"), ("n01440764", "n01440764"), ("n1_x", "n1_x"), ("a", "a")],
)
def test_of_a_folder_name_the_wnid_counts(name, key):
    assert class_key(name) == key


def test_labels_follow_another_class_list():
    images = labelled_images("x", [("n00000002_b", "1"), ("n00000003_c", "2")], lambda _: b"", [])
    moved = images.under(["n00000003", "n00000001", "n00000002"])
    assert moved.labels.tolist() == [2, 0]
    with pytest.raises(DatasetError, match="n00000002_b and 0 others are not among"):
        images.under(["n00000003"])


def test_a_subset_is_evenly_spaced():
    images = labelled_images("x", [("a", str(i)) for i in range(10)], lambda _: b"", [])
    assert images.subset(3).files == ("0", "3", "6")
    assert len(images.subset(99)) == 10
    with pytest.raises(DatasetError, match="at least 1"):
        images.subset(0)


def test_tiny_imagenet_and_the_imagenet_sample_are_recognised(shared_data):
    tiny = read_labelled(shared_data / "tiny_imagenet", "train")
    assert (len(tiny), len(tiny.classes), set(tiny.per_class())) == (3000, 200, {15})
    sample = read_labelled(shared_data / "imagenet_sample")
    assert len(sample.classes) == 1000
    assert tiny.under(sample.classes).labels[0] == 1  # goldfish
