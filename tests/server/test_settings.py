import math

import pytest

from puna.errors import RequestError
from puna.server.durations import parse_duration
from puna.server.settings import Settings, read_settings


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (42, 42),
        (1.5, 1.5),
        ("42", 42),
        ("5m", 300),
        ("1h30m", 5400),
        ("1500ms", 1.5),
        (0, 0),
        ("0s", 0),
        (-1, math.inf),
    ],
)
def test_a_length_of_time_is_seconds_or_a_text(value, seconds):
    assert parse_duration(value) == seconds
    assert parse_duration("-1m") == math.inf


@pytest.mark.parametrize("value", ["soon", "5 minutes", "", "m", [], {}, None, True, math.nan])
def test_what_is_no_length_of_time_is_refused(value):
    with pytest.raises(RequestError, match="length of time"):
        parse_duration(value)


def test_nothing_set_gives_the_defaults():
    assert read_settings({}) == Settings()


def test_ollamas_variables_count_where_punas_say_nothing():
    said = {"OLLAMA_KEEP_ALIVE": "1h", "OLLAMA_MAX_QUEUE": "7", "PUNA_MAX_QUEUE": "9", "OLLAMA_HOST": "0.0.0.0:80"}
    settings = read_settings(said)
    assert (settings.keep_alive, settings.queue, settings.host, settings.port) == (3600, 9, "0.0.0.0", 80)
    assert not settings.loopback


def test_keys_and_values_are_kept_as_a_variable_says():
    assert read_settings({"OLLAMA_KV_CACHE_TYPE": "Q8_0"}).kv_type == "q8_0"
    with pytest.raises(RequestError, match="PUNA_KV_CACHE_TYPE: 'q4_0' makes no sense"):
        read_settings({"PUNA_KV_CACHE_TYPE": "q4_0"})


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("1.2.3.4", "1.2.3.4", 11434),
        (":8080", "127.0.0.1", 8080),
        ("http://box", "box", 80),
        ("https://box:1", "box", 1),
        ("[::1]:99", "::1", 99),
    ],
)
def test_a_host_may_be_an_address_a_port_or_a_url(text, host, port):
    settings = read_settings({"PUNA_HOST": text})
    assert (settings.host, settings.port) == (host, port)


def test_keys_have_scopes():
    assert read_settings({"PUNA_API_KEYS": "a, infer:b"}).keys == {"a": "manage", "b": "infer"}


@pytest.mark.parametrize("said", [{"PUNA_MAX_QUEUE": "many"}, {"PUNA_HOST": "a:b"}, {"PUNA_API_KEYS": "root:x"}])
def test_a_variable_that_makes_no_sense_is_named(said):
    with pytest.raises(RequestError, match=next(iter(said))):
        read_settings(said)
