"""The backend's requests to Label Studio: annotated tasks and pictures.

Every request has a time limit, and every fault becomes a sentence.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests

from detector.errors import DatasetError, DetectorError, ImageError, brief
from detector.images.decoding import MAX_BYTES

TIMEOUTS = 5, 60
"""Seconds to connect, and between two pieces of an answer."""
_IN_LABEL_STUDIO = ("/", "data/", "upload/")
_IN_A_CLOUD = ("s3:", "gs:", "azure-blob:", "azure_spi:")


@dataclass(frozen=True)
class LabelStudio:
    """A running Label Studio.

    url    where it listens, such as http://localhost:8080
    token  an access token of Account & Settings, personal or legacy; it goes to `url` only
    """

    url: str = ""
    token: str = ""

    def annotated_tasks(self, project: int) -> list[dict[str, Any]]:
        """The tasks of a project that have annotations, as an export has them. Raises
        DatasetError.
        """
        address = f"{self._root()}/api/projects/{project}/export?exportType=JSON"
        response = self._get(address, DatasetError, f"the tasks of project {project}")
        try:
            tasks = response.json()
        except ValueError:
            tasks = None
        if not isinstance(tasks, list):
            raise DatasetError(f"{address}: no list of tasks; is this Label Studio's address?")
        return tasks

    def picture(self, task: Mapping[str, Any], key: str) -> bytes:
        """The file of a task's picture, which its data have under `key`. Raises ImageError."""
        data = task.get("data")
        source = data.get(key) if isinstance(data, Mapping) else None
        name = f"task {task.get('id')}"
        if not isinstance(source, str) or not source:
            raise ImageError(f"{name}: its data have no {key!r}, which the labelling setup names")
        response = self._get(self._address(source, task, name), ImageError, f"the image of {name}")
        if len(response.content) > MAX_BYTES:
            raise ImageError(f"{name}: its image is over {MAX_BYTES / 1e6:.0f} MB; make it smaller")
        return response.content

    def _address(self, source: str, task: Mapping[str, Any], name: str) -> str:
        if source.startswith(_IN_A_CLOUD):
            coded = base64.urlsafe_b64encode(source.encode()).decode()
            return f"{self._root()}/tasks/{task.get('id')}/resolve/?fileuri={coded}"
        if source.startswith(_IN_LABEL_STUDIO):
            path = source.lstrip("/")
            return f"{self._root()}/{'data/' * path.startswith('upload/')}{path}"
        if urlsplit(source).scheme in ("http", "https"):
            return source
        raise ImageError(
            f"{name}: {brief(source)} is no address of an image; upload it to Label Studio, or add"
            " it from a storage"
        )

    def _root(self) -> str:
        if urlsplit(self.url).scheme not in ("http", "https"):
            raise DatasetError(
                f"Label Studio's address is {self.url or 'unknown'}; give --url http://HOST:PORT"
            )
        return self.url.rstrip("/")

    def _get(self, address: str, kind: type[DetectorError], what: str) -> requests.Response:
        try:
            headers = self._authorisation() if self._is_own(address) else {}
            response = requests.get(address, headers=headers, timeout=TIMEOUTS)
        except requests.Timeout:
            raise kind(f"{address}: no answer for {TIMEOUTS[1]} s, for {what}; try again") from None
        except (requests.RequestException, ValueError) as error:
            reason = type(error).__name__
            raise kind(f"{address}: {what} cannot be fetched ({reason}); is it running?") from None
        if response.status_code in (401, 403):
            raise kind(
                f"{address}: {what} needs a token that is allowed to read it; give --url and the"
                " variable LABEL_STUDIO_API_KEY"
            )
        if not response.ok:
            raise kind(f"{address}: {what} cannot be fetched (HTTP {response.status_code})")
        return response

    def _is_own(self, address: str) -> bool:
        own, other = urlsplit(self.url), urlsplit(address)
        return bool(self.token) and (own.scheme, own.netloc) == (other.scheme, other.netloc)

    def _authorisation(self) -> dict[str, str]:
        if self.token.count(".") != 2:
            return {"Authorization": f"Token {self.token}"}
        # A personal access token is exchanged for one that lasts some minutes.
        address = urljoin(f"{self.url}/", "/api/token/refresh/")
        response = requests.post(address, json={"refresh": self.token}, timeout=TIMEOUTS)
        access = response.json().get("access") if response.ok else None
        return {"Authorization": f"Bearer {access}"}
