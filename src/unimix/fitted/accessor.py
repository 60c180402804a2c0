"""An attribute that groups methods of a fit, such as ``fit.plot``: created at first use and kept with the fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

if TYPE_CHECKING:
    from unimix.fitted.model import FittedModel

Room = TypeVar("Room")


class Accessor(Generic[Room]):
    """A class attribute of fits whose value is made from the fit, once per fit.

    Args:
        make: Class or function that takes the fit and returns the value.
    """

    def __init__(self, make: Callable[[Any], Room]) -> None:
        self.make = make
        self.__doc__ = make.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, fit: None, owner: type) -> Self: ...
    @overload
    def __get__(self, fit: FittedModel, owner: type) -> Room: ...
    def __get__(self, fit: FittedModel | None, owner: type) -> Self | Room:
        if fit is None:
            return self
        try:
            accessor = self.make(fit)
        except AttributeError as error:  # a bare AttributeError would read as if the fit had no such accessor
            raise RuntimeError(f"The accessor fit.{self.name} failed: {error}") from error
        # Python looks in the instance's __dict__ before it calls a descriptor without __set__.
        fit.__dict__[self.name] = accessor
        return accessor


__all__ = ["Accessor"]
