"""The guard over all tests: whoever asks the network is refused, and it is known afterwards."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

TRIES = {
    "a lookup": "import socket; socket.getaddrinfo('example.com', 80)",
    "a connection": "import socket; socket.create_connection(('192.0.2.1', 80), 1)",
    "a page": "import urllib.request; urllib.request.urlopen('http://example.com', timeout=1)",
    "a packet": "import socket; s = socket.socket(type=socket.SOCK_DGRAM);"
    " s.sendto(b'x', ('192.0.2.1', 9))",
}


@pytest.mark.parametrize("trial", TRIES)
def test_a_process_that_a_test_starts_cannot_use_the_network(trial: str, tmp_path: Path):
    log = tmp_path / "log"
    done = subprocess.run(
        [sys.executable, "-c", TRIES[trial]], capture_output=True, text=True, check=False,
        env={**os.environ, "NO_NETWORK_LOG": str(log)},
    )  # fmt: skip
    assert done.returncode == 1
    assert "the network was to be used" in done.stderr
    assert "example.com" in log.read_text() or "192.0.2.1" in log.read_text()


def test_neither_can_a_test(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("NO_NETWORK_LOG", str(tmp_path / "log"))
    with pytest.raises(RuntimeError, match="network"):
        socket.create_connection(("192.0.2.1", 80), 1)
    assert (tmp_path / "log").exists()


def test_this_machine_may_talk_to_itself():
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), 1).close()
    assert socket.getaddrinfo("localhost", 80)
