"""Pickles of which the large arrays are stored once: many calls with the same data carry references to it."""

from __future__ import annotations

import io
import sys
import weakref
from typing import TYPE_CHECKING, Any

import cloudpickle

from blazing_nb.client.call import Pickled
from blazing_nb.core.reference import Ref

if TYPE_CHECKING:
    from blazing_nb.client.app import Blazing

LARGE = 64 << 10
"""Bytes of an array from which it is stored instead of travelling with each call."""


class Parcels:
    """Packs values for one app. An array object is hashed and stored once while this lives: do not change it meanwhile.

    Args:
        retention: seconds that stored arrays stay.
    """

    def __init__(self, app: Blazing, retention: float) -> None:
        self._app = app
        self._retention = retention
        self._kept: dict[int, tuple[weakref.ref[Any], Ref]] = {}

    def pack(self, value: Any) -> Any:
        """What to send instead of `value`: a worker receives an equal one."""
        buffer = io.BytesIO()
        _Packer(self, buffer).dump(value)
        parcel = Pickled(buffer.getvalue())
        # Half of the limit: the call around it takes some bytes too.
        too_large = 2 * len(parcel.data) > self._app.payload_limit
        return self._app.put(parcel, retention=self._retention) if too_large else parcel

    def keep(self, array: Any) -> Ref:
        """The array's reference; it is stored where this object has not been seen."""
        known = self._kept.get(id(array))
        if known is not None and known[0]() is array:
            return known[1]
        ref = self._app.put(array, retention=self._retention)
        self._kept[id(array)] = (weakref.ref(array), ref)
        return ref


class _Packer(cloudpickle.Pickler):  # type: ignore[misc]
    """Replaces large arrays by references."""

    def __init__(self, parcels: Parcels, file: io.BytesIO) -> None:
        super().__init__(file, protocol=5)
        self._parcels = parcels

    def reducer_override(self, obj: Any) -> Any:
        if _is_large_array(obj):
            return self._parcels.keep(obj).__reduce__()
        return super().reducer_override(obj)


def _is_large_array(obj: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and type(obj) is numpy.ndarray and obj.nbytes >= LARGE and not obj.dtype.hasobject
