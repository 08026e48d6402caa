"""Copies, other sizes and qualities, mirror images: one group; other pictures: other groups."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from detector.datasets.near_duplicates import alike, near_duplicates


def scene(seed: int) -> Image.Image:
    """Soft blobs, as photographs have."""
    noise = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((320, 240), Image.Resampling.BICUBIC)


def test_variants_of_one_picture_are_one_group(tmp_path: Path) -> None:
    first, second = scene(1), scene(2)
    variants = [
        first,
        first.resize((200, 150)),
        ImageOps.mirror(first),
        first.filter(ImageFilter.GaussianBlur(2)),
        first.point(lambda level: level * 0.8),
        second,
        scene(3),
        Image.new("RGB", (50, 50), (90, 90, 90)),  # flat images are not alike: they show nothing
        Image.new("RGB", (50, 50), (80, 90, 90)),
    ]
    paths = [tmp_path / f"{i}.jpg" for i in range(len(variants))]
    for path, image in zip(paths, variants, strict=True):
        image.save(path, quality=85)
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    groups = near_duplicates([*paths, tmp_path / "broken.jpg"])
    assert len(set(groups[:5].tolist())) == 1
    assert len(set(groups.tolist())) == 6


def test_blocks_change_nothing() -> None:
    rng = np.random.default_rng(0)
    bits = rng.random((50, 16, 16)) < 0.5
    bits[30] = bits[3]
    bits[40] = ~bits[7][:, ::-1]
    bits[41] = bits[40] ^ (rng.random((16, 16)) < 0.04)
    expected = {(3, 30), (7, 40), (7, 41), (40, 41)}
    for block in (1, 7, 1024):
        assert set(map(tuple, alike(bits, block).tolist())) == expected
