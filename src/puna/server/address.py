"""Addresses, as `PUNA_HOST` and `--host` say them; light, for commands that only look for a server."""

from urllib.parse import urlsplit

PORT = 11434


def parse_host(text: str) -> dict[str, object]:
    """Address and port of `host`, `host:port`, `:port` or a URL of either."""
    parts = urlsplit(text if "://" in text else f"//{text}")
    port = parts.port
    default = {"http": 80, "https": 443}.get(parts.scheme, PORT)
    return {"host": parts.hostname or "127.0.0.1", "port": default if port is None else port}
