"""Types of what callers of the public functions pass, said before anything else fails over them."""

from puna.errors import PunaError


def require_types(doing: str, error: type[PunaError], **given: tuple[object, type | tuple[type, ...]]) -> None:
    """Raises `error` for the first argument, name to (value, types), that is of none of its types; None is of all.

    A bool is no number here.
    """
    for name, (value, kinds) in given.items():
        kinds = kinds if isinstance(kinds, tuple) else (kinds,)
        fits = isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))
        if value is not None and not fits:
            works = " or ".join(_WORDS.get(kind, kind.__name__) for kind in kinds)
            raise error(f"{doing}: {name} is {str(value)[:80]!r} ({type(value).__name__}); {works} works")


_WORDS: dict[type, str] = {str: "text", int: "a whole number", float: "a number", bool: "True or False"}
