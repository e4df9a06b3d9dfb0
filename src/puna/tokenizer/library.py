"""What the library `tokenizers` raises, as TokenizerError. It does not know what was asked of it."""

from collections.abc import Iterator
from contextlib import contextmanager

from puna.errors import TokenizerError


@contextmanager
def library_errors(problem: str, remedy: str) -> Iterator[None]:
    """Turn whatever the library raises inside into a TokenizerError: `problem`, its own words, `remedy`."""
    try:
        yield
    except BaseException as error:  # it raises plain Exception, and a BaseException where its own checks fail
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        said = " ".join(str(error).split())
        raise TokenizerError(f"{problem} by the library 'tokenizers': {said}; {remedy}") from error
