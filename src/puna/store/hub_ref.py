"""References to models on the Hugging Face hub, and where its cache on this machine has them. No network.

hf.co/user/repo[@revision][:quant]      (huggingface.co/ and https:// in front work too)
$HF_HUB_CACHE/models--user--repo/refs/main               text: a commit
                                 snapshots/<commit>/*    links to
                                 blobs/<etag>
"""

import os
import re
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path

from puna.errors import InvalidName, StoreError
from puna.store.name import ModelName

HOSTS = ("hf.co", "huggingface.co")

_REF = re.compile(
    r"(?:https?://)?(?:www\.)?(?:hf\.co|huggingface\.co)/(?P<user>[^/@:]+)/(?P<repo>[^/@:]+)/?"
    r"(?:@(?P<revision>[^:@]+))?(?::(?P<quant>[^:@/]+))?(?:@(?P<later>[^:@]+))?",
    re.IGNORECASE,
)
_PART = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,199}")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class HubRef:
    """A repository on the hub, perhaps at a revision (branch, tag or commit), and which of its models is meant."""

    user: str
    repo: str
    revision: str | None = None
    quant: str | None = None

    @classmethod
    def parse(cls, text: str) -> "HubRef":
        """Reads a reference; InvalidName says what is wrong with it."""
        match = _REF.fullmatch(text.strip())
        if match is None:
            raise InvalidName(f"hub reference {text[:120]!r}: not like hf.co/user/repo, hf.co/user/repo@revision:QUANT")
        revision = match["revision"] or match["later"]
        for what, part in (("user", match["user"]), ("repository", match["repo"]), ("quant", match["quant"] or "x")):
            if not _PART.fullmatch(part) or ".." in part or "--" in part:
                raise InvalidName(f"hub reference {text[:120]!r}: the {what} is {part!r}; letters, digits, - _ . work")
        if revision and (not _REVISION.fullmatch(revision) or ".." in revision):
            raise InvalidName(f"hub reference {text[:120]!r}: {revision[:60]!r} is no branch, tag or commit")
        return cls(match["user"], match["repo"], revision, match["quant"])

    @property
    def id(self) -> str:
        """user/repo, as the hub calls it."""
        return f"{self.user}/{self.repo}"

    @property
    def name(self) -> ModelName:
        """The name in the store, as Ollama's: the tag is the quant or `latest`; a revision is added to it."""
        tag = self.quant if self.quant and self.quant.lower() != "latest" else "latest"
        suffix = f"-{self.revision.replace('/', '-')}" if self.revision else ""
        return ModelName(HOSTS[0], self.user, self.repo, (tag + suffix)[:80])

    def __str__(self) -> str:
        revision, quant = (f"@{self.revision}" if self.revision else ""), (f":{self.quant}" if self.quant else "")
        return f"{HOSTS[0]}/{self.id}{revision}{quant}"


def is_hub(text: str | PathLike[str]) -> bool:
    """Whether a reference is one to the hub, right or wrong."""
    if not isinstance(text, str):
        return False
    start = re.match(r"(?:https?://)?(?:www\.)?(?:hf\.co|huggingface\.co)/", text, re.IGNORECASE)
    return start is not None


def cache_root() -> Path:
    """The hub's cache: $HF_HUB_CACHE, else $HF_HOME/hub, else ~/.cache/huggingface/hub."""
    if chosen := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("HF_HOME") or f"{base}/huggingface").expanduser() / "hub"


def cache_entry(ref: HubRef) -> Path:
    """The folder of a repository in the cache, whether it is there or not."""
    return cache_root() / f"models--{ref.user}--{ref.repo}"


def find_snapshot(path: str | PathLike[str] | HubRef) -> Path | None:
    """The snapshot of a repository that the cache has, by reference or by the path of its models-- folder.

    None where there is none. StoreError where the folder has several, and none is `main`.
    """
    entry = cache_entry(path) if isinstance(path, HubRef) else Path(fspath(path))
    revision = (path.revision if isinstance(path, HubRef) else None) or "main"
    snapshots = entry / "snapshots"
    if not entry.name.startswith("models--") or not snapshots.is_dir():
        return None
    commit = _commit(entry, revision)
    if commit and (snapshots / commit).is_dir():
        return snapshots / commit
    if isinstance(path, HubRef):
        return None
    there = sorted(folder for folder in snapshots.iterdir() if folder.is_dir())
    if len(there) > 1:
        names = ", ".join(folder.name[:12] for folder in there[:3])
        raise StoreError(f"opening {entry}: it has {len(there)} snapshots, {names}; name one of them")
    return there[0] if there else None


def _commit(entry: Path, revision: str) -> str | None:
    if _COMMIT.fullmatch(revision):
        return revision
    try:
        said = (entry / "refs" / revision).read_text("ascii", "replace")[:100].strip()
    except OSError:
        return None
    return said if _COMMIT.fullmatch(said) else None


def snapshot_name(folder: Path) -> str | None:
    """The repository's name of a folder that is a snapshot in a cache of the hub, else None."""
    entry = folder.parent.parent
    if folder.parent.name != "snapshots" or not entry.name.startswith("models--"):
        return None
    return entry.name.rpartition("--")[2]


def check_snapshot(folder: Path) -> None:
    """Raises StoreError where a file of a snapshot is a link that leads out of its cache entry."""
    if snapshot_name(folder) is None:
        return
    inside = folder.parent.parent.resolve()
    for path in folder.rglob("*"):
        if path.is_symlink() and not path.resolve().is_relative_to(inside):
            raise StoreError(
                f"opening {folder}: {path.name} is a link out of {inside.name}; remove the entry, and fetch it again"
            )
