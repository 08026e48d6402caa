"""Weight files of strangers: no code of theirs runs, memory stays bounded, errors are typed.

Each file pretends to be the weights of a linear layer of 3 outputs and 2 inputs.
"""

import io
import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from readers import varint
from safetensors.torch import save
from torch import nn

from detector.errors import BundleError, WeightsError
from detector.models.weights.pretrained import fit, read_tensors
from detector.models.weights.start import load_start
from detector.models.weights.tensor_files import (
    compare_layouts,
    layout_in_header,
    name_file_in_errors,
)

GOOD = {"weight": torch.ones(3, 2), "bias": torch.zeros(3)}
CANARY = "canary"


def swallow(path: Path) -> None:
    """What every importer does with a file."""
    fit(nn.Linear(2, 3), read_tensors(path), str(path))


# safetensors: eight bytes of length, a JSON header, the numbers


def framed(header: bytes, numbers: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + numbers


def entry(
    shape: object = (3, 2), offsets: object = (0, 24), dtype: object = "F32"
) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def tensors(weight: object = None, bias: object = None, numbers: int = 36, **more: object) -> bytes:
    head = {"weight": weight or entry(), "bias": bias or entry((3,), (24, 36)), **more}
    return framed(json.dumps(head).encode(), bytes(numbers))


WHOLE = save(GOOD)
SAFETENSORS: dict[str, bytes] = {
    "empty": b"",
    "seven bytes": b"\0" * 7,
    "a header of 2^63 bytes": framed(b"{}", length=2**63),
    "a header of 2^64 - 1 bytes": framed(b"{}", length=2**64 - 1),
    "a header longer than the file": framed(b"{}", length=1000),
    "no header": framed(b""),
    "a header that is a list": framed(b"[]"),
    "a header that is no JSON": framed(b"{weight"),
    "a header that is not UTF-8": framed(b'{"\xff": 1}'),
    "a header nested a million deep": framed(b'{"a":' + b"[" * 1_000_000),
    "overlapping numbers": tensors(bias=entry((3,), (12, 24)), numbers=24),
    "numbers outside the file": tensors(bias=entry((3,), (2**40, 2**40 + 12))),
    "offsets backwards": tensors(weight=entry((3, 2), (24, 0))),
    "negative offsets": tensors(weight=entry((3, 2), (-24, 0))),
    "a hole between numbers": tensors(bias=entry((3,), (30, 42)), numbers=42),
    "numbers that no tensor owns": tensors(numbers=99),
    "a shape that lies": tensors(weight=entry((3, 5))),
    "a negative shape": tensors(weight=entry((-3, -2))),
    "a shape that overflows": tensors(weight=entry((2**62, 2**62))),
    "a shape of text": tensors(weight=entry(("3", "2"))),
    "a shape of fractions": tensors(weight=entry((3.5, 2))),
    "an unknown type": tensors(weight=entry(dtype="F1024")),
    "integers for numbers": tensors(weight=entry(dtype="I32"), bias=entry((3,), (24, 36), "I32")),
    "a type of the wrong size": tensors(weight=entry(dtype="F64")),
    "another tensor beside": save({**GOOD, "extra": torch.zeros(1)}),
    "names like paths": save({"../../weight": GOOD["weight"], "/etc/bias": GOOD["bias"]}),
    "a missing tensor": save({"weight": GOOD["weight"]}),
    "not a number": save({**GOOD, "bias": torch.full((3,), float("nan"))}),
    "infinite": save({**GOOD, "bias": torch.full((3,), float("inf"))}),
    "duplicate names": framed(
        b'{"weight":%b,"weight":%b}' % ((json.dumps(entry()).encode(),) * 2), bytes(24)
    ),
    "a billion rows of nothing": tensors(weight=entry((10**9, 0), (0, 0)), numbers=36),
    "cut in the header": WHOLE[:40],
    "cut in the numbers": WHOLE[:-5],
}


@pytest.mark.parametrize("name", SAFETENSORS)
def test_safetensors(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(SAFETENSORS[name])
    with pytest.raises(WeightsError, match=r"a\.safetensors"):
        swallow(tmp_path / "a.safetensors")


def read_as_member(data: bytes) -> None:
    """What a bundle's reader does before it looks at the numbers."""
    from safetensors.torch import load

    compare_layouts(layout_in_header(data, "member"), {"weight": (3, 2), "bias": (3,)}, "member")
    with name_file_in_errors("member"):
        load(data)


@pytest.mark.parametrize(
    "name", [one for one in SAFETENSORS if one not in ("not a number", "infinite")]
)
def test_the_same_in_a_bundle(name: str) -> None:
    """(Values that are not finite are found after this; tests/detection/test_bundle.py.)"""
    with pytest.raises(BundleError, match="member"):
        read_as_member(SAFETENSORS[name])


# Pickles: what they would run leaves a canary


class Runs:
    """Unpickled by an ordinary reader, it makes a file."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def zipped(content: bytes, packed: bool = False, name: str = "archive/data.pkl") -> bytes:
    out = io.BytesIO()
    how = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    with zipfile.ZipFile(out, "w", how) as archive:
        archive.writestr(name, content)
        archive.writestr("archive/version", "3\n")
    return out.getvalue()


def saved(value: object, old: bool = False) -> bytes:
    out = io.BytesIO()
    torch.save(value, out, _use_new_zipfile_serialization=not old)
    return out.getvalue()


def larger_than_its_numbers() -> bytes:
    """A tensor of 10^18 numbers that are all the same one."""
    return saved({**GOOD, "weight": torch.zeros(1).expand(10**9, 10**9)})


PICKLES: dict[str, Callable[[], bytes]] = {
    "os.system": lambda: pickle.dumps(Runs(os.system, f"touch {CANARY}")),
    "os.system, old protocol": lambda: pickle.dumps(Runs(os.system, f"touch {CANARY}"), 0),
    "os.system in a state dict": lambda: saved({"weight": Runs(os.system, f"touch {CANARY}")}),
    "the same, as before 2020": lambda: saved({"w": Runs(os.system, f"touch {CANARY}")}, old=True),
    "os.system in a zip": lambda: zipped(pickle.dumps(Runs(os.system, f"touch {CANARY}"), 2)),
    "exec": lambda: pickle.dumps(Runs(exec, f"open({CANARY!r}, 'w')")),
    "eval": lambda: pickle.dumps(Runs(eval, f"open({CANARY!r}, 'w')")),
    "open": lambda: pickle.dumps(Runs(open, CANARY, "w")),
    "a process": lambda: pickle.dumps(Runs(subprocess.Popen, ["touch", CANARY])),
    "torch.load within": lambda: pickle.dumps(Runs(torch.load, CANARY)),
    "a whole module": lambda: saved(nn.Linear(2, 3)),
    "a list": lambda: saved([1, 2]),
    "names that are numbers": lambda: saved({1: torch.zeros(2)}),
    "text for a tensor": lambda: saved({**GOOD, "weight": "text"}),
    "a sparse tensor": lambda: saved({**GOOD, "weight": torch.eye(3, 2).to_sparse()}),
    "a tensor without numbers": lambda: saved({**GOOD, "weight": torch.ones(3, 2, device="meta")}),
    "larger than its numbers": larger_than_its_numbers,
    "a zip bomb": lambda: zipped(bytes(200_000_000), packed=True),
    "a zip without a pickle": lambda: zipped(b"", name="../../evil"),
    "a string of 2^60 bytes": lambda: b"\x80\x04\x8d" + struct.pack("<Q", 2**60) + b"a.",
    "a stack that is popped empty": lambda: b"\x80\x02" + b"0" * 50 + b".",
    "endless nesting": lambda: b"\x80\x02" + b"(" * 100_000 + b"l" * 100_000 + b".",
    "a memo of 2^32": lambda: b"\x80\x02]r\xff\xff\xff\xff.",
    "cut": lambda: saved(GOOD)[:-200],
    "cut at the front": lambda: saved(GOOD)[100:],
    "text": lambda: b"not weights",
}


@pytest.mark.parametrize("suffix", [".pth", ".pt"])
@pytest.mark.parametrize("name", PICKLES)
def test_pickles(name: str, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(PICKLES[name]())
    with pytest.raises(WeightsError, match=rf"a\{suffix}"):
        swallow(path)
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_the_canary_would_sing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """These files do run code where a reader lets them."""
    monkeypatch.chdir(tmp_path)
    pickle.loads(PICKLES["os.system"]())
    assert (tmp_path / CANARY).exists()


# Protocol buffers: field 100 is a layer, 1 its name, 7 a blob; 5 its numbers, 7 its shape


def message(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def layer(shape: list[int], numbers: bytes, name: bytes = b"fc") -> bytes:
    sides = message(7, message(1, b"".join(map(varint, shape))))
    return message(100, message(1, name) + message(7, sides + message(5, numbers)))


def nested(levels: int) -> bytes:
    content = b""
    for _ in range(levels):
        content = message(100, content)
    return content


CAFFEMODELS: dict[str, bytes] = {
    "a length of 2^62": varint(100 << 3 | 2) + varint(2**62) + b"x",
    "a length without end": varint(100 << 3 | 2) + b"\xff" * 40,
    "nested two thousand deep": nested(2000),
    "a wire type that is none": varint(100 << 3 | 7) + b"x",
    "an endless group": varint(100 << 3 | 3) * 1000,
    "a shape that lies": layer([3, 5], bytes(24)),
    "a shape of 2^62": layer([2**62, 2**62], bytes(24)),
    "nothing by 2^62": layer([0, 2**62], b""),
    "a shape of 100,000 sides": layer([2**60] * 100_000, bytes(24)),
    "half a number": layer([3, 2], bytes(23)),
    "a name that is not UTF-8": layer([3, 2], bytes(24), b"\xff\xfe"),
    "a number for a layer": varint(100 << 3) + varint(7),
    "no layer": message(1, b"net"),
    "nothing": b"",
    "text": b"hello there",
    "garbage": message(100, b"\xff" * 30),
}


@pytest.mark.parametrize("name", CAFFEMODELS)
def test_protocol_buffers(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.caffemodel"
    path.write_bytes(CAFFEMODELS[name])
    with pytest.raises(WeightsError, match=r"a\.caffemodel"):
        swallow(path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".caffemodel"])
def test_cut_anywhere(suffix: str, tmp_path: Path, rng: np.random.Generator) -> None:
    whole = {".safetensors": WHOLE, ".pth": saved(GOOD), ".caffemodel": layer([3, 2], bytes(24))}[
        suffix
    ]
    path = tmp_path / f"a{suffix}"
    for at in rng.integers(0, len(whole), 20):
        path.write_bytes(whole[:at])
        with pytest.raises(WeightsError, match=rf"a\{suffix}"):
            swallow(path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_bytes_changed_anywhere(suffix: str, tmp_path: Path, rng: np.random.Generator) -> None:
    """Read with other numbers, or refused by name; nothing else."""
    whole = WHOLE if suffix == ".safetensors" else saved(GOOD)
    path = tmp_path / f"a{suffix}"
    said = []
    for _ in range(40):
        data = bytearray(whole)
        for at in rng.integers(0, len(whole), 3):
            data[at] = rng.integers(0, 256)
        path.write_bytes(data)
        try:
            swallow(path)
        except WeightsError as error:
            said.append(str(error))
    assert len(said) > 5
    assert all(path.name in one for one in said)


LAYOUTS = {
    "googlenet": {"classifier.weight": None},
    "torchvision_googlenet": {"fc.weight": None, "inception3a.branch1.conv.weight": (1,)},
    "inception_v3": {"fc.weight": None, "Mixed_5b.branch1x1.conv.weight": (1,)},
    "resnet50": {"fc.weight": None},
}
"""The last layer of each layout, and the tensor by which it is known."""


@pytest.mark.parametrize("architecture", LAYOUTS)
@pytest.mark.parametrize("shape", [(10**9, 0), (0, 1024), (0,), ()])
def test_a_last_layer_that_no_memory_holds(
    architecture: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    """The file has a few bytes; the network that it asks for would have 4 TB."""
    path = tmp_path / "a.safetensors"
    layout = {name: known or shape for name, known in LAYOUTS[architecture].items()}
    path.write_bytes(save({name: torch.zeros(one) for name, one in layout.items()}))
    with pytest.raises(WeightsError, match=r"a\.safetensors: tensor \w+\.weight has shape"):
        load_start(path, architecture, 21, {})


def test_a_file_over_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.caffemodel"
    path.touch()
    os.truncate(path, 9_000_000_000)  # no block of it is on the disk
    with pytest.raises(WeightsError, match=r"9\.0 GB is over the limit"):
        read_tensors(path)


def test_bombs_are_refused_within_300_megabytes(tmp_path: Path) -> None:
    """In a process of its own, whose peak is compared with what it held before."""
    names = ("a zip bomb", "a string of 2^60 bytes", "larger than its numbers")
    for number, name in enumerate(names):
        (tmp_path / f"{number}.pth").write_bytes(PICKLES[name]())
    program = (
        "import resource, sys\n"
        "from detector.errors import WeightsError\n"
        "from detector.models.weights.pretrained import read_tensors\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before, refused = peak(), 0\n"
        "for path in sys.argv[1:]:\n"
        "    try: read_tensors(path)\n"
        "    except WeightsError: refused += 1\n"
        "print(refused, peak() - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, sorted(tmp_path.iterdir()))],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    refused, grown = map(int, done.stdout.split())
    assert refused == len(names)
    assert grown * (1 if sys.platform == "darwin" else 1024) < 300e6
