"""Where batches come from: arrays, data sets that make their batches, iterators; and how epochs are cut from them.

Source: Keras 3, keras.src.trainers.epoch_iterator, for what an epoch is.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

from pycnn import random
from pycnn.models.data import Samples, count

#: Reads and checks what came as a batch.
Accept = Callable[[Any], Samples]


class Source(Protocol):
    """What gives batches."""

    #: Whether the batches can be gone through only once.
    is_spent_by_use: bool

    @property
    def steps(self) -> int | None:
        """How many batches there are; None where that is not known."""

    def go_through(self, shuffle: bool | str) -> Iterator[Samples]:
        """The batches from the first one on; of what can be gone through only once those that are left."""

    def on_epoch_begin(self) -> None:
        """Called before the first batch of an epoch."""

    def on_epoch_end(self) -> None:
        """Called after the last batch of an epoch."""


class Items:
    """The items of an object with ``__getitem__`` and a length, as :class:`pycnn.utils.PyDataset`, each a batch.

    Raises:
        ValueError: when it has no batches, or wants processes to make them.
    """

    is_spent_by_use = False

    def __init__(self, items: Any, accept: Accept) -> None:
        self._items, self._accept = items, accept
        if self.steps == 0:
            raise ValueError(f"x: expected at least one batch, received a {type(items).__name__} of length 0")

    @property
    def steps(self) -> int | None:
        """As many as the object says now: it may change between epochs."""
        length = self._items.num_batches if hasattr(self._items, "num_batches") else len(self._items)
        return None if length is None else count(length, "x: number of batches", 0)

    def go_through(self, shuffle: bool | str) -> Iterator[Samples]:
        """The items in order, or in a random one; made by the object's workers where it has more than one."""
        steps = self.steps
        order: Iterable[int] = itertools.count() if steps is None else range(steps)
        if shuffle and steps is not None:
            order = random.generator().permutation(steps).tolist()
        workers = getattr(self._items, "workers", 1)
        made = map(self._items.__getitem__, order)
        return map(self._accept, self._made_ahead(order, workers) if workers > 1 else made)

    def _made_ahead(self, order: Iterable[int], workers: int) -> Iterator[Any]:
        """The items in their order, made by threads before they are asked for, ``max_queue_size`` at a time at most."""
        pool, ahead = ThreadPoolExecutor(workers), getattr(self._items, "max_queue_size", 10)
        queue: deque[Future[Any]] = deque()
        try:
            for index in order:
                queue.append(pool.submit(self._items.__getitem__, index))
                if len(queue) >= ahead:
                    yield queue.popleft().result()
            while queue:
                yield queue.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def on_epoch_begin(self) -> None:
        """The object's own, where it has one."""
        getattr(self._items, "on_epoch_begin", _nothing)()

    def on_epoch_end(self) -> None:
        """The object's own, where it has one."""
        getattr(self._items, "on_epoch_end", _nothing)()


class Iterated:
    """What can be iterated over: an iterator or generator once, every other object anew in each epoch."""

    def __init__(self, batches: Iterable[Any], accept: Accept) -> None:
        self._batches, self._accept = batches, accept
        self.is_spent_by_use = isinstance(batches, Iterator)

    @property
    def steps(self) -> int | None:
        """The object's length, where it has one."""
        return len(self._batches) if isinstance(self._batches, Sized) else None

    def go_through(self, shuffle: bool | str) -> Iterator[Samples]:
        """The batches as they come."""
        return map(self._accept, self._batches)

    def on_epoch_begin(self) -> None:
        """There is nothing to call."""

    def on_epoch_end(self) -> None:
        """There is nothing to call."""


def _nothing() -> None:
    """What is called where an object has no such method."""


class Feed:
    """Hands out a source's batches, an epoch at a time.

    Without ``steps`` an epoch is all of the batches. With them it has that many, and the next epoch goes on behind
    them; when the batches end in the middle of an epoch, so does the epoch, and the next one begins with the first.

    Args:
        source: what gives the batches.
        steps: batches per epoch; None for all.
        shuffle: whether the source shuffles, as its ``go_through`` understands it.
    """

    def __init__(self, source: Source, steps: int | None, shuffle: bool | str = False) -> None:
        self._source, self._shuffle = source, shuffle
        self._asked = steps
        self._running: Iterator[Samples] | None = None
        #: The next batch, gathered but not taken yet. Nothing else keeps one.
        self._waiting: deque[Samples] = deque()
        self.taken = 0
        self.ran_out = False

    @property
    def steps(self) -> int | None:
        """Batches per epoch; None where that is not known."""
        return self._asked or self._source.steps

    def has_more(self) -> bool:
        """Whether another epoch would have a batch; gathers it where nothing else can tell."""
        return not self._source.is_spent_by_use or self._gathered()

    def begin(self) -> None:
        """Begin an epoch."""
        self.taken, self.ran_out = 0, False
        self._source.on_epoch_begin()

    def is_ready(self) -> bool:
        """Whether there is another batch in this epoch; gathers it."""
        if self.taken == self._asked:
            return False
        if self._gathered():
            return True
        if not self.taken:  # the batches have ended with the epoch before
            self.restart()
            return self._gathered()
        self.ran_out = self._asked is not None
        return False

    def take(self) -> Samples:
        """The batch that is ready."""
        self.taken += 1
        return self._waiting.popleft()

    def end(self) -> None:
        """End an epoch; unless it had a part of the batches, the next one begins with the first."""
        if self._asked is None or self.ran_out:
            self.restart()
        self._source.on_epoch_end()

    def restart(self) -> None:
        """Have the next epoch begin with the first batch; of what can be gone through once, with the next one."""
        if not self._source.is_spent_by_use:
            self._running = None
            self._waiting.clear()

    def _gathered(self) -> bool:
        if not self._waiting:
            if self._running is None:
                self._running = self._source.go_through(self._shuffle)
            self._waiting.extend(itertools.islice(self._running, 1))
        return bool(self._waiting)
