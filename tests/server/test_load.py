"""Many clients at once, some that leave, and a worker that is killed in their midst."""

import http.client
import json
import os
import random
import signal
import string
import subprocess
import sys
import threading
import time
import urllib.request

import pytest

from puna.server.settings import Settings
from server.conftest import Live

CLIENTS = 64


def body_of(i):
    """Prompts of all lengths; every answer is the alphabet."""
    return {"model": "tiny", "messages": [{"role": "user", "content": "word " * (i % 9)}], "stream": i % 2 == 0}


def answer(live, i):
    """What one client gets: its text, or the error it is told."""
    reply = live("POST", "/api/chat", body_of(i))
    if reply.status != 200:
        return reply.json["error"]
    if errors := [line["error"] for line in reply.lines if "error" in line]:
        return errors[0]
    return "".join(line["message"]["content"] for line in reply.lines)


def leave(live, i):
    """A client that goes away after a few bytes."""
    connection = http.client.HTTPConnection("127.0.0.1", live.port, timeout=30)
    body = {"model": "tiny", "prompt": "\n", "raw": True, "options": {"ignore_eos": True, "num_predict": 150}}
    connection.request("POST", "/api/generate", json.dumps(body))
    connection.getresponse().read(10 + i)
    connection.close()


def all_at_once(work):
    threads = [threading.Thread(target=each) for each in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)


def test_every_client_gets_its_answer_though_others_leave(live):
    said = {}

    def ask(i):
        said[i] = answer(live, i)

    work = [lambda i=i: leave(live, i) if i % 4 == 3 else ask(i) for i in range(CLIENTS)]
    random.Random(0).shuffle(work)
    all_at_once(work)
    assert said == {i: string.ascii_lowercase for i in range(CLIENTS) if i % 4 != 3}
    until(lambda: live.models.loaded[0].worker.jobs == 0)


@pytest.mark.parametrize("stream", [True, False])
def test_who_leaves_is_answered_no_longer_and_waits_no_longer(home, stream):
    live = Live(Settings(parallel=1))
    try:
        answer(live, 0)
        model = live.models.loaded[0]
        body = {"model": "tiny", "prompt": "\n", "raw": True, "stream": stream}
        body |= {"shift": True, "options": {"ignore_eos": True, "num_predict": 1_000_000}}
        clients = [http.client.HTTPConnection("127.0.0.1", live.port, timeout=30) for _ in range(3)]
        for i, client in enumerate(clients):
            client.request("POST", "/api/generate", json.dumps(body))
            until(lambda i=i: (model.worker.jobs, model.turns.waiting) == (1, i))
        clients[2].close()
        until(lambda: (model.worker.jobs, model.turns.waiting) == (1, 1))
        first = next(iter(model.worker._jobs))
        clients[0].close()
        until(lambda: model.turns.waiting == 0 and model.worker.jobs == 1 and first not in model.worker._jobs)
        clients[1].close()
        until(lambda: model.worker.jobs == 0)
        assert answer(live, 0) == string.ascii_lowercase
    finally:
        live.close()


def test_only_requests_on_a_killed_worker_are_lost_and_they_are_told(live):
    answer(live, 0)
    said = {}

    def ask(i):
        said[i] = answer(live, i)

    def kill():
        until(lambda: live.models.loaded[0].worker.jobs >= 5)
        os.kill(live.models.loaded[0].worker.pid, signal.SIGKILL)

    all_at_once([kill, *(lambda i=i: ask(i) for i in range(CLIENTS))])
    lost = [text for text in said.values() if text != string.ascii_lowercase]
    assert len(said) == CLIENTS
    assert all("process ended (signal 9)" in text for text in lost)
    assert 0 < len(lost) <= Settings().parallel


def test_who_comes_when_the_queue_is_full_is_told_to_come_again(home):
    live = Live(Settings(parallel=1, queue=1))
    try:
        replies = []
        all_at_once([lambda: replies.append(live("POST", "/api/chat", body_of(1))) for _ in range(20)])
        statuses = sorted(reply.status for reply in replies)
        assert set(statuses) == {200, 503}
        assert all(reply.headers["Retry-After"] == "1" for reply in replies if reply.status == 503)
    finally:
        live.close()


def test_a_server_that_is_to_end_answers_first(home):
    port = free_port()
    command = [sys.executable, "-m", "puna", "serve", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        until(lambda: reachable(port))
        body = {"model": "tiny", "prompt": "\n", "raw": True, "options": {"ignore_eos": True, "num_predict": 200}}
        request = urllib.request.Request(f"http://127.0.0.1:{port}/api/generate", json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=30) as reply:
            first = reply.readline()
            server.send_signal(signal.SIGTERM)
            lines = [first, *reply.readlines()]
        assert json.loads(lines[-1])["eval_count"] == 200
        assert server.wait(20) == 0


def test_an_address_that_is_taken_is_one_line(live):
    command = [sys.executable, "-m", "puna", "serve", "--port", str(live.port)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"puna: serving at 127.0.0.1:{live.port}: Address already in use; --port")
    assert len(ended.stderr.splitlines()) == 1


def free_port():
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def reachable(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as reply:
            return reply.status == 200
    except OSError:
        return False


def until(true):
    for _ in range(1000):
        if true():
            return
        time.sleep(0.01)
    pytest.fail("it did not come true within 10 s")
