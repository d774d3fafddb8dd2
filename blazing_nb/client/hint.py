"""Names that handles have in other libraries: an AttributeError says what they are called here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar


class Hinting:
    """Says of names that a class has not, and is asked for, which one does that here."""

    __slots__ = ()
    _called: ClassVar[dict[str, str]] = {}

    if not TYPE_CHECKING:  # a type checker shall go on finding names that are not there

        def __getattr__(self, name: str) -> Any:
            hint = f"; use {self._called[name]}" if name in self._called else ""
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}{hint}", name=name, obj=self)
