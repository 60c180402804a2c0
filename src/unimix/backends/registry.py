"""Registry of backends by name, in the entry-point group ``unimix.backends``; loading a backend loads no engine."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from unimix.backends.base import Backend, BackendInfo, make_backend
from unimix.backends.capabilities import Capabilities
from unimix.errors import EngineBrokenError, OptionError, UnimixError, UnknownBackendError, did_you_mean
from unimix.foreign_names import suggests_names

GROUP = "unimix.backends"
DEFAULT_BACKEND = "pls"
"""Name of the default backend."""
BackendLike = str | type[Backend] | Backend


@functools.cache
def _provided() -> dict[str, tuple[EntryPoint, ...]]:
    """The entry points of every name; several, if packages use the same name for different classes."""
    entry_points_of: dict[str, dict[str, EntryPoint]] = {}
    for point in entry_points(group=GROUP):
        entry_points_of.setdefault(point.name, {})[point.value] = point
    return {name: tuple(points.values()) for name, points in entry_points_of.items()}


@functools.cache
def registered() -> dict[str, EntryPoint]:
    """All backends by name, built-in and third-party."""
    return {name: points[0] for name, points in _provided().items()}


@suggests_names
def backend_class(name: str) -> type[Backend]:
    """Load a backend's class by its name.

    Raises:
        UnknownBackendError: If there is no backend of this name; the message suggests the nearest name.
        EngineBrokenError: If the entry point cannot be imported or is not a backend, or two packages provide the name.
    """
    known = registered()
    if name not in known:
        raise UnknownBackendError(
            f"There is no backend {name!r}.{did_you_mean(name, known)} Known: {', '.join(known)}."
        )
    values = [point.value for point in _provided().get(name, ())]
    if len(values) > 1:
        raise EngineBrokenError(f"Two packages provide the backend {name!r}: {' and '.join(values)}. Uninstall one.")
    try:
        cls = known[name].load()
    except (Exception, SystemExit) as error:
        raise EngineBrokenError(
            f"The backend {name!r} ({known[name].value}) does not import: {type(error).__name__}: {error}. "
            "Update or uninstall the package that provides it."
        ) from error
    if not (isinstance(cls, type) and issubclass(cls, Backend)):
        raise EngineBrokenError(f"The entry point of backend {name!r} is not a subclass of unimix.backends.Backend.")
    for attribute, kind in (("info", BackendInfo), ("capabilities", Capabilities)):
        if not isinstance(getattr(cls, attribute, None), kind):
            raise EngineBrokenError(
                f"The backend {name!r} ({known[name].value}) has no {attribute}, a {kind.__name__}. Update or "
                "uninstall the package that provides it."
            )
    return cls


def resolve(backend: BackendLike, options: Mapping[str, Any] | None = None) -> Backend:
    """Convert a name, a class or a configured instance to an instance.

    Args:
        backend: Argument ``backend`` of ``fit``.
        options: Options of the backend, which must not be combined with an instance.

    Raises:
        UnknownBackendError: If there is no backend of this name.
        OptionError: If an option is wrong.
    """
    if isinstance(backend, Backend):
        if options:
            raise OptionError(
                f"options= and a configured {type(backend).__name__}(...) were both given; "
                "put all options into the instance."
            )
        return backend
    if isinstance(backend, type) and issubclass(backend, Backend):
        return make_backend(backend, options)
    if isinstance(backend, str):
        return make_backend(backend_class(backend), options)
    raise UnknownBackendError(
        f"backend={backend!r}: give a name ({', '.join(registered())}), a backend class or an instance."
    )


def resolve_all(
    backends: BackendLike | Sequence[BackendLike], options: Mapping[str, Any] | None = None
) -> tuple[list[Backend], list[UnimixError]]:
    """Convert names, classes and instances to instances.

    Args:
        backends: One backend or several, as given by the user.
        options: Options of the backends that are not instances.

    Returns:
        Instances, and one error for each backend that cannot be resolved.
    """
    engines: list[Backend] = []
    errors: list[UnimixError] = []
    several = [backends] if isinstance(backends, str) or not isinstance(backends, Sequence) else backends
    for backend in several:
        try:
            engines.append(resolve(backend, options))
        except (OptionError, UnknownBackendError) as error:
            errors.append(error)
    return engines, errors


def others() -> dict[str, Backend]:
    """Every registered backend that can be imported and made with default options."""
    engines = {}
    for name, cls in sound().items():
        with contextlib.suppress(EngineBrokenError, OptionError):
            engines[name] = make_backend(cls)
    return engines


def sound() -> dict[str, type[Backend]]:
    """Every registered backend whose adapter can be imported; broken third-party backends are skipped."""
    classes = {}
    for name in registered():
        with contextlib.suppress(EngineBrokenError):
            classes[name] = backend_class(name)
    return classes


def built_in() -> list[str]:
    """Names of unimix's own backends: engines that maximise a likelihood, then samplers, each by rank."""
    engines = {n: backend_class(n).info for n, point in registered().items() if point.value.startswith("unimix.")}
    return sorted(engines, key=lambda n: (engines[n].samples, engines[n].rank))


def numbered(names: Sequence[str]) -> list[str]:
    """Unique labels of backends: their names, and ``pls (2)`` for the second one with the same name."""
    counts = [list(names[:i]).count(name) for i, name in enumerate(names)]
    return [name if not n else f"{name} ({n + 1})" for name, n in zip(names, counts, strict=True)]
