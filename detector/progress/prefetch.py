"""Prefetching: items made in threads ahead of their use, in order."""

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
    """Yield make(first), ..., make(last - 1) in order, with up to `ahead` of them (default: the
    number of threads) made in advance.
    """
    ahead = threads if ahead is None else ahead
    with ThreadPoolExecutor(threads, thread_name_prefix="batches") as pool:
        waiting: list[Future[Item]] = []
        submitted = first
        try:
            for _ in range(first, last):
                # One more than `ahead`: that which is taken next.
                while submitted < last and len(waiting) <= ahead:
                    waiting.append(pool.submit(make, submitted))
                    submitted += 1
                yield waiting.pop(0).result()
        finally:
            for future in waiting:
                future.cancel()
