"""Commands that act on the store of a server which PUNA_HOST names, and which has a store of its own."""

import os
import re
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

import puna as library
from cli.tiny import write_tiny
from create.test_adapter_layers import write_lora
from puna.cli.places import Here, There, find_place
from puna.cli.remote import Server, named_server
from puna.errors import PunaError, RequestError
from puna.store import Store


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """A server that is a process of its own, with a key; gives its address and its store."""
    folder = tmp_path_factory.mktemp("elsewhere")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    source = os.path.dirname(os.path.dirname(library.__file__))
    more = {"PUNA_MODELS": str(folder / "models"), "HOME": str(folder), "PYTHONPATH": source}
    environ = {**os.environ, **more, "PUNA_API_KEYS": "secret,infer:weak", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "puna", "serve", "--port", str(port)]
    with subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        end = time.monotonic() + 60
        while not Server("127.0.0.1", port).is_puna() and time.monotonic() < end:
            time.sleep(0.05)
        yield f"127.0.0.1:{port}", Store(folder / "models")
        process.terminate()


@pytest.fixture
def there(elsewhere, monkeypatch):
    """Its store, which is empty, while commands act on it."""
    address, store = elsewhere
    for name in [name.short for name in store.models()]:
        store.remove(name)
    monkeypatch.setenv("PUNA_HOST", address)
    monkeypatch.setenv("PUNA_API_KEY", "secret")
    return store


@pytest.fixture
def both(there, puna, home, tiny, monkeypatch):
    """The same model here and there."""
    (home / "Modelfile").write_text(
        f'FROM {tiny}\nPARAMETER temperature 0\nPARAMETER stop "<x>"\nSYSTEM Be kind.\nLICENSE Free.\nLICENSE Really.\n'
    )
    assert puna("create", "tiny").status == 0
    with monkeypatch.context() as patch:
        patch.delenv("PUNA_HOST")
        assert puna("create", "tiny").status == 0


def names(store):
    return sorted(name.short for name in store.models())


def test_what_is_made_of_a_file_here_is_there_and_the_same(there, both):
    assert (names(there), names(Store())) == (["tiny:latest"], ["tiny:latest"])
    assert there.manifest("tiny").digest == Store().manifest("tiny").digest


def test_lists_are_of_the_place_that_is_named(there, both, puna, monkeypatch):
    assert puna("cp", "tiny", "second") == (0, "", "")
    rows = [line.split()[:4] for line in puna("list").out.splitlines()[1:]]
    assert sorted(row[0] for row in rows) == ["second:latest", "tiny:latest"]
    assert {tuple(row[1:]) for row in rows} == {
        (there.manifest("tiny").digest.removeprefix("sha256:")[:12], *puna("list", "tiny").out.split()[6:8])
    }
    monkeypatch.delenv("PUNA_HOST")
    assert [line.split()[:4] for line in puna("list").out.splitlines()[1:]] == [
        row for row in rows if row[0] == "tiny:latest"
    ]


def test_what_is_shown_is_the_same_but_for_the_file(there, both, puna, monkeypatch):
    parts = ((), *((f"--{part}",) for part in ("template", "system", "parameters", "license", "metadata", "tensors")))
    remote = [puna("show", "tiny", *part) for part in parts]
    monkeypatch.delenv("PUNA_HOST")
    here = [puna("show", "tiny", *part) for part in parts]
    without = [re.sub(r"(?m)^file .*\n", "", shown.out) for shown in here]
    assert [shown.out for shown in remote] == without
    assert here[0].out != without[0]
    assert all(shown.status == 0 and shown.out for shown in remote)


def test_a_modelfile_that_is_shown_is_what_makes_it_there(there, both, puna):
    shown = puna("show", "tiny", "--modelfile").out
    assert shown.startswith("# Made by")
    assert str(there.root) in shown
    assert "SYSTEM Be kind." in shown


def test_a_file_is_shown_that_is_here(there, puna, tiny):
    assert f"file               {tiny}" in puna("show", tiny).out


def test_what_is_removed_is_removed_there(there, both, puna):
    assert puna("rm", "tiny", "none").err.endswith("model 'none' not found; `puna list` shows those that are there\n")
    assert names(there) == ["tiny:latest"]
    assert puna("rm", "tiny") == (0, "removed tiny\n", "")
    assert (names(there), names(Store())) == ([], ["tiny:latest"])


def test_files_are_sent_once_and_weights_quantized_there(there, puna, home, tiny):
    said = puna("create", "one", tiny)
    assert (said.status, said.out) == (0, "")
    assert said.err.splitlines()[:2] == ["reading tiny.gguf", "sending tiny.gguf"]
    assert said.err.splitlines()[-1] == "success"
    again = puna("create", "two", tiny).err.splitlines()
    assert "reading tiny.gguf" in again
    assert "sending tiny.gguf" not in again
    assert puna("create", "small", "one", "-q", "F16").status == 0
    assert "F16" in puna("show", "small").out
    assert names(there) == ["one:latest", "small:latest", "two:latest"]


def test_an_adapter_is_sent_too_and_shown(there, puna, home, tiny):
    write_lora(home / "lora.gguf", 1)
    (home / "Modelfile").write_text(f"FROM {tiny}\nADAPTER ./lora.gguf\n")
    assert puna("create", "tuned").status == 0
    (layer,) = there.manifest("tuned").all("adapter")
    assert there.blob_path(layer.digest).read_bytes() == (home / "lora.gguf").read_bytes()
    assert re.search(rf"(?m)^adapter +{there.blob_path(layer.digest)}$", puna("show", "tuned").out)


def test_a_directory_is_sent_by_the_files_that_an_import_takes(there, puna, home):
    folder = home / "folder"
    folder.mkdir()
    write_tiny(folder / "weights.gguf")
    (folder / "unrelated.bin").write_bytes(b"")
    (home / "Modelfile").write_text("FROM ./folder\n")
    said = puna("create", "sent")
    assert said.status == 0, said.err
    assert "unrelated" not in said.err
    assert names(there) == ["sent:latest"]


def test_a_name_that_the_server_knows_comes_before_a_file_here(there, both, puna, home):
    (home / "tiny").write_text("no model")
    assert puna("create", "more", "tiny").status == 0
    assert there.manifest("more").all("model") == there.manifest("tiny").all("model")
    (home / "other").write_text("no model")
    assert puna("create", "more", "other").status == 1


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (("create", "m", "./none.gguf"), "none.gguf: there is no such file or directory"),
        (("create", "m", "none"), "model 'none' not found"),
        (("create", "m", "t", "--link"), "--link is for this machine's store, not for 127.0.0.1:"),
        (("create", "m", "t", "--target-size", "1M"), "--target-size is for this machine's store"),
        (("show", "none"), "model 'none' not found"),
        (("cp", "none", "m"), "model 'none' not found"),
        (("rm", "none"), "model 'none' not found"),
        (("pull", "hf.co/nobody/nothing"), "hf.co/nobody/nothing"),
        (("pull", "pypi:?"), "pulling 'pypi:?': not a package"),
    ],
)
def test_what_goes_wrong_is_one_line(there, puna, words, wrong):
    status, out, err = puna(*words)
    assert (status, out) == (1, "")
    assert wrong in err.splitlines()[-1]
    assert err.splitlines()[-1].startswith("puna: ")


def test_a_modelfile_that_no_request_can_say_is_refused(there, both, puna, home, tiny):
    for text, wrong in (
        (f"FROM {tiny}\nDRAFT x\n", "DRAFT x: a server takes none"),
        ("FROM tiny\nFROM other\n", "FROM other: a server takes one name, and has tiny"),
        ("FROM tiny\nADAPTER a\nADAPTER b\n", "a server takes one at a time"),
    ):
        (home / "Modelfile").write_text(text)
        assert wrong in puna("create", "m").err
    assert names(there) == ["tiny:latest"]


def test_a_key_that_may_not_change_the_store_does_not(there, both, puna, monkeypatch, elsewhere):
    monkeypatch.setenv("PUNA_API_KEY", "weak")
    assert puna("list").status == 0
    for words in (("rm", "tiny"), ("cp", "tiny", "x"), ("create", "x", "tiny"), ("pull", "pypi:x")):
        status, _, err = puna(*words)
        assert status == 1
        assert elsewhere[0] in err
    monkeypatch.delenv("PUNA_API_KEY")
    assert "an API key is needed" in puna("list").err
    assert names(there) == ["tiny:latest"]


def test_vectors_of_a_model_that_is_only_there(there, puna, tiny):
    assert puna("create", "only", tiny).status == 0
    said = puna("embed", "only", "abc")
    assert said.status == 0
    want = library.load(tiny).embed(["abc"])[0]
    np.testing.assert_allclose(np.array(eval(said.out)), want, atol=1e-5)


def test_where_nothing_listens_a_line_says_so(puna, stored, monkeypatch):
    monkeypatch.setenv("PUNA_HOST", "127.0.0.1:1")
    for words in (("list",), ("show", "tiny"), ("rm", "tiny"), ("cp", "tiny", "x"), ("create", "x", "tiny")):
        status, out, err = puna(*words)
        assert (status, out) == (1, "")
        assert err.startswith("puna: no server listens at 127.0.0.1:1; ")
    monkeypatch.delenv("PUNA_HOST")
    assert puna("list").out.split()[4] == "tiny:latest"


@pytest.mark.parametrize(
    ("environ", "place"),
    [
        ({}, Here),
        ({"OLLAMA_HOST": "127.0.0.1:PORT"}, Here),
        ({"OLLAMA_HOST": "localhost:PORT"}, Here),
        ({"OLLAMA_HOST": "0.0.0.0:PORT"}, Here),
        ({"PUNA_HOST": "0.0.0.0:PORT"}, Here),
        ({"PUNA_HOST": "http://[::]:PORT"}, Here),
        ({"PUNA_HOST": "  ", "OLLAMA_HOST": "0.0.0.0"}, Here),
        ({"PUNA_HOST": "127.0.0.1:PORT"}, There),
        ({"PUNA_HOST": "http://127.0.0.1:PORT/"}, There),
        ({"OLLAMA_HOST": "http://127.0.0.2:PORT"}, There),
        ({"OLLAMA_HOST": "1.2.3.4", "PUNA_HOST": ":PORT"}, There),
    ],
)
def test_a_variable_names_a_server_or_only_where_one_listens(monkeypatch, environ, place):
    with socket.create_server(("", 0)) as listening:
        monkeypatch.delenv("OLLAMA_HOST")
        for name, text in environ.items():
            monkeypatch.setenv(name, text.replace("PORT", str(listening.getsockname()[1])))
        assert type(find_place()) is place


def test_a_server_that_does_not_listen_or_is_none_is_named():
    with pytest.raises(PunaError, match=r"no server listens at 127\.0\.0\.3:1; "):
        named_server({"OLLAMA_HOST": "127.0.0.3:1"})
    with pytest.raises(RequestError, match="PUNA_HOST: 'a:b' is no address"):
        named_server({"PUNA_HOST": "a:b"})


class Fetching:
    """A server that fetches, and has the models of these names."""

    def __init__(self, *names):
        self.names, self.asked = names, []

    def digest(self, model):
        return "0" * 64 if model in self.names else None

    def ask(self, method, path, body):
        self.asked.append((method, path, body))
        return {}

    def stream(self, path, body):
        self.asked.append(("POST", path, body))
        yield {"status": "pulling"}
        yield {"status": "pulling", "completed": 3, "total": 4}
        yield {"status": "success"}


@pytest.mark.parametrize(
    ("source", "made"),
    [
        ("hf.co/user/repo:Q8_0", "hf.co/user/repo:Q8_0"),
        ("pypi:llm-Some_Thing==1", "some-thing:latest"),
        ("a", "a:latest"),
    ],
)
def test_what_a_server_fetches_is_told_as_it_comes_and_called_as_it_is_there(source, made):
    server, told = Fetching(), []
    place = There(server)
    assert place.pull(source, lambda *words: told.append(words), name=None, force=True) == made
    assert told == [("pulling", 0, 0), ("pulling", 3, 4), ("success", 0, 0)]
    assert server.asked == [("POST", "/api/pull", {"model": source, "force": True})]


@pytest.mark.parametrize(
    ("had", "more"), [((), [("DELETE", "/api/delete", {"model": "some:latest"})]), (("some:latest",), [])]
)
def test_what_a_server_fetches_under_another_name_is_renamed(had, more):
    server = Fetching(*had)
    assert There(server).pull("pypi:llm-some", lambda *words: None, name="mine", force=False) == "mine:latest"
    copy = ("POST", "/api/copy", {"source": "some:latest", "destination": "mine:latest"})
    assert server.asked[1:] == [copy, *more]
