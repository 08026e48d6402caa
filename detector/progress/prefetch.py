"""Prefetching: items made in threads ahead of their use, in order."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def prefetched(
    make: Callable[[Item], Made],
    items: Iterable[Item],
    *,
    threads: int = 1,
    ahead: int | None = None,
) -> Generator[Made, None, None]:
    """Yield make(item) of each item in order, with up to `ahead` of them (default: the number of
    threads) made in advance.
    """
    ahead = threads if ahead is None else ahead
    with ThreadPoolExecutor(threads, thread_name_prefix="ahead") as pool:
        waiting: deque[Future[Made]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(make, item))
                # One more than `ahead`: that which is taken next.
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:  # a caller that stops early waits for those under way alone
            for future in waiting:
                future.cancel()
