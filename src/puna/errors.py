"""The exceptions Puna raises on purpose; anything else that escapes is a bug.

    PunaError
    ├── FormatError        a file's bytes are not what its format says (also a ValueError)
    ├── ModelError         a model cannot be understood: architecture, hyperparameter, tensor, tokenizer
    │   └── UnknownArchitecture
    ├── ConversionError    a checkpoint cannot be converted or quantized as asked
    ├── BackendError       a backend is absent, or cannot run this graph
    ├── GraphError         a graph is built wrongly: shapes, dtypes, unknown ops
    ├── StoreError         the store cannot do what was asked
    │   ├── ModelNotFound  no model by that name (also a LookupError)
    │   └── DigestMismatch bytes do not hash to their name
    ├── InvalidName        text that is not a model name (also a ValueError)
    ├── ModelfileError     a Modelfile that does not parse; carries the line
    ├── TemplateError      a chat template that does not parse or render
    ├── TokenizerError     a tokenizer that cannot be built or used
    └── RequestError       options, messages or prompts that cannot be served (also a ValueError)
        └── PromptTooLong  the prompt does not fit the context; carries both counts

A message reads `<what was being done>: <what is wrong, with the values>; <what would work>`.
"""


class PunaError(Exception):
    """Root of every error Puna raises on purpose."""


class FormatError(PunaError, ValueError):
    """A file's bytes are not what its format says."""


class ModelError(PunaError):
    """A model cannot be understood."""


class UnknownArchitecture(ModelError):
    """No file in `arch/` claims this architecture."""


class ConversionError(PunaError):
    """A checkpoint cannot be converted or quantized as asked."""


class BackendError(PunaError):
    """A backend is absent or cannot run this graph."""


class GraphError(PunaError):
    """A graph is built wrongly."""


class StoreError(PunaError):
    """The store cannot do what was asked."""


class ModelNotFound(StoreError, LookupError):
    """No model by that name."""


class DigestMismatch(StoreError):
    """Bytes do not hash to their name."""


class InvalidName(PunaError, ValueError):
    """Text that is not a model name."""


class ModelfileError(PunaError, ValueError):
    """A Modelfile that does not parse; `line` is where, counted from 1."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message if line is None else f"Modelfile line {line}: {message}")
        self.line = line


class TemplateError(PunaError):
    """A chat template that does not parse or render."""


class TokenizerError(PunaError):
    """A tokenizer that cannot be built or used."""


class RequestError(PunaError, ValueError):
    """Options, messages or prompts that cannot be served."""


class PromptTooLong(RequestError):
    """The prompt does not fit the context: `tokens` against `limit`; `most` is the longest context the model can have.

    `truncate`: whether the call would have cut it if asked.
    """

    def __init__(self, tokens: int, limit: int, most: int | None = None, *, truncate: bool = False) -> None:
        works = ["shorten the prompt"]
        if most is None or limit < most:
            works.append("raise the context length (num_ctx)" + (f" up to {most}" if most else ""))
        if truncate:
            works.append("ask for truncation")
        holds = f"{limit}, the model's maximum" if limit == most else f"{limit}"
        super().__init__(f"the prompt has {tokens} tokens, the context holds {holds}; {' or '.join(works)}")
        self.tokens = tokens
        self.limit = limit
