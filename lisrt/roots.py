"""The images that a spawner's sandboxes are made from, made ready when first asked for and kept as long as it lives."""

from __future__ import annotations

import os
import threading

from lisrt.errors import HostError
from lisrt.image import HOST, Root, host_root
from lisrt.store.catalog import Catalog, Stamp
from lisrt.store.record import ImageRecord
from lisrt.stored import stored_root


class Roots:
    """Roots by name. `base` and `workplace` are the scratch directory's."""

    def __init__(self, base: str, workplace: str) -> None:
        self._base = base
        self._workplace = workplace
        self._host: Root | None = None
        self._stored: dict[str, tuple[Stamp, Root]] = {}
        self._locks: list[int] = []
        """Descriptors that keep what the images are made of."""
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
                known, locks = self._host_root() if name == HOST else self._stored_root(name)
                self._locks += locks
                if self._forgotten:  # meanwhile, by another thread that saw the spawner dead
                    self._unlock()
            return known

    def of(self, reference: str, record: ImageRecord) -> Root:
        """The image of a record that need not have a name. May take a while: offload it. ImageError, HostError."""
        below = self.get(HOST) if record.base == HOST else None
        root, locks = stored_root(reference, record, self._base, Catalog(), below)
        with self._lock:
            self._locks += locks
            if self._forgotten:
                self._unlock()
        return root

    def forget(self) -> None:
        """Lets go of all of them."""
        self._forgotten = True
        self._unlock()

    def _unlock(self) -> None:
        while self._locks:
            os.close(self._locks.pop())

    def _host_root(self) -> tuple[Root, list[int]]:
        try:
            self._host, lock = host_root(self._base, self._workplace)
        except OSError as error:
            raise HostError(
                f"could not prepare image {HOST!r} in {self._workplace}: {error}",
                check="scratch",
                fix="Free some space there, or name another directory with $LISRT_SCRATCH",
            ) from None
        return self._host, [lock]

    def _stored_root(self, name: str) -> tuple[Root, list[int]]:
        catalog = Catalog()
        stamp = catalog.stamp(name)  # before it is read: when the name moves meanwhile, it is looked up again
        record = catalog.get(name)
        below = None
        if record.base == HOST:
            if self._host is None:
                self._locks += self._host_root()[1]
            below = self._host
        root, locks = stored_root(name, record, self._base, catalog, below)
        if stamp is not None:
            self._stored[name] = (stamp, root)
        return root, locks
