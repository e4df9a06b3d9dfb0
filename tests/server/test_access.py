import pytest

from puna.server.settings import Settings
from server.conftest import Live


def test_a_page_of_another_origin_is_refused(live):
    assert live("GET", "/api/tags", Origin="https://evil.example").status == 403
    assert live("GET", "/api/tags", Origin="http://localhost:3000").headers["Access-Control-Allow-Origin"]


def test_a_name_that_is_not_this_machines_is_refused_on_loopback(live):
    assert live("GET", "/api/tags", Host="evil.example").status == 403
    assert live("GET", "/api/tags", Host="puna.local").status == 200


@pytest.fixture(scope="module")
def guarded(home):
    server = Live(Settings(keys={"all": "manage", "ask": "infer"}, body=1000))
    yield server
    server.close()


def test_without_a_key_only_what_is_open_to_all_is_answered(guarded):
    assert guarded("GET", "/api/version").status == 200
    assert guarded("GET", "/api/tags").status == 401
    assert guarded("GET", "/api/tags", Authorization="Bearer wrong").status == 401


def test_a_key_that_may_ask_may_not_change_the_store(guarded):
    assert guarded("GET", "/api/tags", Authorization="Bearer ask").status == 200
    assert guarded("GET", "/api/tags", X_Api_Key="ask").status == 200
    assert guarded("DELETE", "/api/delete", {"model": "nope"}, Authorization="Bearer ask").status == 403
    assert guarded("DELETE", "/api/delete", {"model": "nope"}, Authorization="Bearer all").status == 404


def test_a_body_beyond_the_limit_is_refused(guarded):
    body = {"model": "tiny", "prompt": "x" * 2000}
    assert guarded("POST", "/api/generate", body, Authorization="Bearer ask").status == 413
