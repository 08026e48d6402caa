"""Whatever a program holds an image in becomes the same pixels, or an error says what would do."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detector.errors import ImageError
from detector.images.decoding import read_image
from detector.images.inputs import ImageLike, to_pixels

PIXELS = np.random.default_rng(0).integers(0, 256, (7, 5, 3), np.uint8)
TENSOR = torch.tensor(PIXELS).permute(2, 0, 1)


@pytest.mark.parametrize(
    "image",
    [
        PIXELS,
        Image.fromarray(PIXELS),
        TENSOR,
        TENSOR.float() / 255,
        (TENSOR.double() / 255).requires_grad_(),
        TENSOR.half() / 255,
        TENSOR.contiguous(),
    ],
    ids=["array", "pillow", "uint8", "float", "double", "half", "contiguous"],
)
def test_every_form_gives_the_same_pixels(image: ImageLike) -> None:
    made = to_pixels(image)
    assert (made.dtype, made.flags.c_contiguous) == (np.uint8, True)
    assert (made == PIXELS).all()


def test_an_array_is_not_copied() -> None:
    assert to_pixels(PIXELS) is PIXELS


@pytest.mark.parametrize("as_path", [str, Path])
def test_a_path_is_read(as_path: type, tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    assert (to_pixels(as_path(tmp_path / "a.png")) == PIXELS).all()
    with pytest.raises(ImageError, match=r"b\.png: cannot be opened"):
        to_pixels(as_path(tmp_path / "b.png"))


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK", "I;16", "F"])
def test_a_pillow_picture_of_any_mode_is_as_its_file(mode: str, tmp_path: Path) -> None:
    grey = mode in ("I;16", "F")
    picture = (
        Image.fromarray(PIXELS[:, :, 0].astype(np.uint16 if mode == "I;16" else np.float32))
        if grey
        else Image.fromarray(PIXELS).convert(mode)
    )
    picture.save(tmp_path / "a.tif")
    assert (to_pixels(picture) == read_image(tmp_path / "a.tif")).all()


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8])
def test_a_picture_is_turned_upright_as_its_file_is(
    suffix: str, orientation: int, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(PIXELS).save(path, exif=exif)
    with Image.open(path) as picture:
        assert (to_pixels(picture) == read_image(path)).all()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (None, "a path, a Pillow picture, .* not a NoneType"),
        ([PIXELS, PIXELS], "not a list; several images go to detect_many"),
        (b"\xff\xd8", "not a bytes"),
        (PIXELS[:, :, 0], r"\(H, W, 3\) uint8"),
        (PIXELS / 255, r"\(H, W, 3\) uint8"),
        (PIXELS.transpose(2, 0, 1), r"\(H, W, 3\) uint8"),
        (TENSOR[None], r"shape \(3, H, W\).* has \(1, 3, 7, 5\); give the images of a batch"),
        (TENSOR.permute(1, 2, 0), r"shape \(3, H, W\).* has \(7, 5, 3\)"),
        (TENSOR[:, :0], "at least one pixel"),
        (TENSOR.float(), "from 0 to 1; this one has 0 to 248; give it before it is normalised"),
        (TENSOR.float() / 255 - 0.5, "from 0 to 1; this one has -0.5"),
        (torch.full((3, 4, 5), torch.nan), "has nan to nan"),
        (TENSOR.long(), "this one is torch.int64"),
        (TENSOR > 5, "this one is torch.bool"),
        (Image.new("RGB", (0, 5)), "no pixels"),
    ],
)
def test_anything_else_is_refused_with_what_is_expected(image: ImageLike, message: str) -> None:
    with pytest.raises(ImageError, match=message) as told:
        to_pixels(image)
    assert len(str(told.value)) < 240


def test_a_picture_whose_file_is_cut_is_an_image_error(tmp_path: Path) -> None:
    Image.fromarray(np.tile(PIXELS, (30, 30, 1))).save(tmp_path / "a.jpg")
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(whole[: len(whole) // 2])
    with (
        Image.open(tmp_path / "a.jpg") as picture,
        pytest.raises(ImageError, match="cannot be loaded"),
    ):
        to_pixels(picture)
