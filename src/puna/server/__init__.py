"""The server: what people ask over HTTP, in the words of Ollama's, OpenAI's and Anthropic's APIs.

    running -> app -> endpoints -> (ollama | ...) -> server -> models -> a worker's client

Each model runs in a worker process (puna.worker); here nothing is computed. `starlette` and `uvicorn` are imported by
the modules that need them, when they are.
"""

__all__ = ["translate_request"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from puna.server.translation import translate_request
else:

    def __getattr__(name):
        if name != "translate_request":
            raise AttributeError(f"module 'puna.server' has no attribute '{name}'")
        from puna.server.translation import translate_request

        return translate_request
