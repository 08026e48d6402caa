"""Items made in threads ahead of whoever uses them, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def prefetched(
    make: Callable[[int], Item],
    first: int,
    last: int,
    *,
    threads: int = 1,
    ahead: int | None = None,
) -> Iterator[Item]:
    """make(first), ..., make(last - 1) in order, up to `ahead` of them (as many as
    threads) made before they are asked for.
    """
    ahead = threads if ahead is None else ahead
    with ThreadPoolExecutor(threads, thread_name_prefix="batches") as pool:
        waiting: list[Future[Item]] = []
        asked = first
        try:
            for _ in range(first, last):
                while asked < last and len(waiting) <= ahead:
                    waiting.append(pool.submit(make, asked))
                    asked += 1
                yield waiting.pop(0).result()
        finally:
            for future in waiting:
                future.cancel()
