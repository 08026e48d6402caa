"""How the kernels come to be: cached where the disk allows it, working where it does not."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from detector import jit as kernel
from detector.proposals.selective_search import SelectiveSearch, warm_up
from detector.proposals.selective_search.workspace import LARGEST, BufferPool, Workspace

ROOT = Path(__file__).resolve().parents[2]
REPORT = """
from detector.proposals.selective_search import warm_up
from detector.jit import kernels_of
said = []
warm_up(said.append)
print(len(said), all(one.signatures for one in kernels_of("detector.proposals.selective_search")))
"""


def in_a_fresh_process(**environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", REPORT],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )
    return done.stdout.split()


@pytest.mark.slow
def test_a_second_process_loads_what_the_first_one_compiled(tmp_path: Path) -> None:
    """The first says that it compiles; the second has nothing to say."""
    cache = str(tmp_path / "kernels")
    assert in_a_fresh_process(NUMBA_CACHE_DIR=cache) == ["1", "True"]
    assert in_a_fresh_process(NUMBA_CACHE_DIR=cache) == ["0", "True"]


def test_a_kernel_that_does_not_fit_into_memory_is_an_error_and_not_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """LLVM ends the process where it gets no memory, so that is looked for before."""
    monkeypatch.setattr(kernel, "KERNELS", [])
    doubled = kernel.kernel(_double)
    with monkeypatch.context() as patched:
        patched.setattr(kernel, "_ROOM_BYTES", 1 << 60)
        with pytest.raises(MemoryError):
            doubled(2)
    assert not doubled.signatures
    assert doubled(2) == 4


def _double(number: int) -> int:
    return 2 * number


def test_one_signature_a_kernel_so_that_warming_up_compiles_everything() -> None:
    warm_up()
    image = np.random.default_rng(0).integers(0, 256, (50, 60, 3), np.uint8)
    for preset in ("single", "fast", "quality"):
        SelectiveSearch(preset=preset, threads=2)(image)
    ours = kernel.kernels_of("detector.proposals.selective_search")
    assert len(ours) > 5
    assert [one.py_func.__name__ for one in ours if len(one.signatures) != 1] == []
    assert kernel.on_disk(ours)


def test_a_cache_that_cannot_be_written_or_read_is_no_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*arguments: object) -> None:
        raise PermissionError("read-only file system")

    monkeypatch.setattr(kernel.FunctionCache, "save_overload", refuse)
    monkeypatch.setattr(kernel.FunctionCache, "load_overload", refuse)
    known = len(kernel.KERNELS)

    @kernel.kernel
    def doubled(value: int) -> int:
        return 2 * value

    del kernel.KERNELS[known:]
    assert doubled(21) == 42


def test_no_place_for_a_cache_at_all_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(*arguments: object) -> None:
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr(kernel._ForgivingCache, "__init__", nowhere)
    known = len(kernel.KERNELS)

    @kernel.kernel
    def tripled(value: int) -> int:
        return 3 * value

    del kernel.KERNELS[known:]
    assert tripled(14) == 42


def test_compiling_is_announced_once_for_all_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(kernel, "when_compiling", said.append)
    monkeypatch.setattr(kernel, "KERNELS", [])
    monkeypatch.setattr(kernel.FunctionCache, "load_overload", lambda *_: None)
    monkeypatch.setattr(kernel.FunctionCache, "save_overload", lambda *_: None)
    for _ in range(2):
        assert kernel.kernel(_double)(4) == 8
    assert len(said) == 1
    assert "first run: compiling" in said[0]


def test_a_searcher_travels_to_another_process_without_its_memory() -> None:
    image = np.random.default_rng(1).integers(0, 256, (40, 50, 3), np.uint8)
    search = SelectiveSearch(seed=3, threads=2)
    before = search(image).boxes
    copy = pickle.loads(pickle.dumps(search))
    assert copy.settings == search.settings
    np.testing.assert_array_equal(copy(image).boxes, before)


def test_workspaces_are_used_again_unless_they_are_large() -> None:
    shelf = BufferPool()
    with shelf.borrowed() as first, shelf.borrowed() as second:
        assert first is not second
        first.array("a", (3, 4), np.int32)[:] = 7
        assert first.size() == 48
        second.array("a", LARGEST + 1, np.uint8)
    with shelf.borrowed() as again, shelf.borrowed() as fresh:
        assert again is first
        assert fresh is not second
        assert (again.array("a", 12, np.int32) == 7).all()


def test_arrays_of_a_workspace_keep_their_place_while_they_fit() -> None:
    workspace = Workspace()
    large = workspace.array("x", 100, np.uint8)
    small = workspace.array("x", (5, 5), np.uint16)
    assert small.shape == (5, 5)
    assert np.shares_memory(large, small)
