"""Decoded images of a training, kept while memory allows."""

import threading
from collections import OrderedDict
from pathlib import Path

from detector.images.decoding import read_image
from detector.structures import Array


class ImageCache:
    """A least-recently-used cache of decoded images, limited in bytes."""

    def __init__(self, max_bytes: int = 1_000_000_000) -> None:
        self.max_bytes = max_bytes
        self._images: OrderedDict[Path, Array] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def read(self, path: Path) -> Array:
        """The decoded image (H, W, 3) uint8 at `path`. Raises ImageError if it is unreadable."""
        with self._lock:
            if path in self._images:
                self._images.move_to_end(path)
                return self._images[path]
        # Outside the lock, so that threads decode side by side; two may decode the same image.
        image = read_image(path)
        with self._lock:
            if path not in self._images:
                self._images[path] = image
                self._bytes += image.nbytes
            # The newest stays, however large it is.
            while self._bytes > self.max_bytes and len(self._images) > 1:
                self._bytes -= self._images.popitem(last=False)[1].nbytes
        return image
