"""The images that a spawner's sandboxes are made from, made ready when first asked for and kept as long as it lives."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping

from lisrt.errors import HostError
from lisrt.image import HOST, Root, host_root
from lisrt.store.catalog import Catalog, Stamp
from lisrt.store.record import ImageRecord
from lisrt.stored import stored_root


def _silence(_name: str) -> None:
    pass


on_unpacking: Callable[[str], object] = _silence
"""Called with the name of an image that is about to be unpacked, which takes seconds."""


class Roots:
    """Roots by name. `base` and `workplace` are the scratch directory's."""

    def __init__(self, base: str, workplace: str) -> None:
        self._base = base
        self._workplace = workplace
        self._host: Root | None = None
        self._stored: dict[str, tuple[Stamp, Root]] = {}
        self._locks: dict[str, int] = {}
        """Descriptors that keep what the images are made of, by directory."""
        self._forgotten = False
        self._lock = threading.Lock()

    def ready(self, name: str) -> Root | None:
        """The image if it is ready, and still the one that the store has under that name."""
        if name == HOST:
            return self._host
        known = self._stored.get(name)
        return known[1] if known and known[0] == Catalog().stamp(name) else None

    def get(self, name: str) -> Root:
        """The image. May take a while when it is new here: offload it. ImageError, HostError."""
        with self._lock:
            known = self.ready(name)
            if known is None:
                known = self._host_root() if name == HOST else self._stored_root(name)
            return known

    def of(self, reference: str, record: ImageRecord) -> Root:
        """The image of a record that need not have a name. May take a while: offload it. ImageError, HostError."""
        below = self.get(HOST) if record.base == HOST else None
        root, locks = stored_root(reference, record, self._base, Catalog(), below, on_unpacking)
        with self._lock:
            self._keep(locks)
        return root

    def forget(self) -> None:
        """Lets go of all of them."""
        self._forgotten = True
        self._unlock()

    def _keep(self, locks: Mapping[str, int]) -> None:
        """One for each directory: names that move from image to image must not use up the descriptors."""
        for place, lock in locks.items():
            if place in self._locks:
                os.close(lock)
            else:
                self._locks[place] = lock
        if self._forgotten:  # meanwhile, by another thread that saw the spawner dead
            self._unlock()

    def _unlock(self) -> None:
        while self._locks:
            os.close(self._locks.popitem()[1])

    def _host_root(self) -> Root:
        try:
            self._host, lock = host_root(self._base, self._workplace)
        except OSError as error:
            raise HostError(
                f"could not prepare image {HOST!r} in {self._workplace}: {error}",
                check="scratch",
                fix="Free some space there, or name another directory with $LISRT_SCRATCH",
            ) from None
        self._keep({self._host.layers[0]: lock})
        return self._host

    def _stored_root(self, name: str) -> Root:
        catalog = Catalog()
        stamp = catalog.stamp(name)  # before it is read: when the name moves meanwhile, it is looked up again
        record = catalog.get(name)
        below = (self._host or self._host_root()) if record.base == HOST else None
        root, locks = stored_root(name, record, self._base, catalog, below, on_unpacking)
        self._keep(locks)
        if stamp is not None:
            self._stored[name] = (stamp, root)
        return root
