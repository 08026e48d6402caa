"""Fixtures shared by all tests."""

import os
import runpy
import signal
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

os.environ.setdefault("MPLBACKEND", "Agg")

# Jobs in the background are started with Ctrl-C ignored, and so would be what they start; tests of
# interrupts mind.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import hypothesis
import numpy as np
import pytest

# Tests never time things: by default a slow example is a failure, and a busy machine has some.
hypothesis.settings.register_profile(
    "patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("patient")

NO_NETWORK = Path(__file__).parent / "no_network"
_LOG = "NO_NETWORK_LOG"


def pytest_configure(config: pytest.Config) -> None:
    """Nothing may use the network, neither the tests nor any Python that they start."""
    if _LOG not in os.environ:  # the first process; workers inherit it
        handle, os.environ[_LOG] = tempfile.mkstemp(prefix="no-network-")
        os.close(handle)
        before = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.pathsep.join([str(NO_NETWORK), *([before] if before else [])])
        config.stash[_IS_FIRST] = True
    runpy.run_path(str(NO_NETWORK / "sitecustomize.py"))


@pytest.hookimpl(wrapper=True)  # before pytest-xdist's own, which starts the processes
def pytest_cmdline_main(config: pytest.Config) -> Generator[None, object, object]:
    """Two processes, a file in one of them, unless the command line says otherwise: not where a
    debugger is wanted, nor where pytest-xdist is not installed.
    """
    option = config.option
    alone = option.usepdb or option.trace or option.collectonly or hasattr(config, "workerinput")
    has_xdist = config.pluginmanager.hasplugin("xdist")
    if (
        has_xdist
        and not alone
        and (option.numprocesses, option.dist, option.tx) == (None, "no", [])
    ):
        option.numprocesses, option.dist = 2, "loadfile"
    return (yield)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if not session.config.stash.get(_IS_FIRST, False):
        return
    log = Path(os.environ.pop(_LOG))
    tried = log.read_text(encoding="utf-8")
    log.unlink()
    if tried:
        print(f"\nthe network was to be used:\n{tried}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


_IS_FIRST = pytest.StashKey[bool]()

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture
def at_most_20_s() -> Iterator[None]:
    """A test that would otherwise wait for ever fails."""

    def on_alarm(number: int, frame: object) -> None:
        pytest.fail("still waiting after 20 s")

    before = signal.signal(signal.SIGALRM, on_alarm)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the checkout; tests that need it skip elsewhere."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip("the development data is not beside this checkout")
    return folder


@pytest.fixture(scope="session")
def shared_weights() -> Path:
    folder = SHARED / "weights"
    if not folder.is_dir():
        pytest.skip("the development weights are not beside this checkout")
    return folder


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
