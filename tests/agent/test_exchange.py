"""A question to a collector and whatever answers: each trouble is one line, and none of them has the token in it."""

from __future__ import annotations

import email.utils
import gc
import logging
import ssl
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from agent.collectors import TOKEN, Collector
from faultproxy import (
    Fault,
    FaultProxy,
    answer,
    continuing,
    dripping,
    endless,
    gzip_bomb,
    lost_answer,
    portal,
    redirect,
    refusal,
    reset_mid_body,
    silent,
    truncated,
)
from looptap.exchange import Answer, Exchange
from looptap.settings import Settings
from looptap.sinks import NeedsUser, Unavailable
from looptap_collector.server.tokens import new_token

ASKED = "/v1/journals/j1"


@pytest.fixture
def exchange(proxy: FaultProxy, settings: Settings) -> Iterator[Exchange]:
    found = Exchange(proxy.url, settings, seconds=3.0)
    yield found
    found.close()


def outcome(exchange: Exchange, method: str = "GET", body: bytes = b"") -> Unavailable | Answer:
    try:
        found = exchange.ask(method, ASKED, body)
    except Unavailable as error:
        return error
    return found if found.status == 200 and found.media_type == "application/json" else exchange.unavailable(found)


def test_request_is_as_the_protocol_says(exchange: Exchange, proxy: FaultProxy) -> None:
    """Token in its header, nothing compressed wanted, our name told, nothing in the address."""
    assert isinstance(outcome(exchange), Answer)
    (seen,) = proxy.requests
    assert seen.headers["authorization"] == f"Bearer {TOKEN}"
    assert seen.headers["accept-encoding"] == "identity"
    assert seen.headers["user-agent"].startswith("looptap/")
    assert seen.path == ASKED


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        (silent, "did not answer within 3 s"),
        (dripping(seconds=0.3), "did not answer within 3 s"),
        (truncated, "cannot be reached: "),
        (lost_answer, "cannot be reached: Connection reset by peer"),
        (portal(), "is not a looptap collector (HTTP 200, text/html)"),
        (redirect("http://127.0.0.1:9/elsewhere"), "is not a looptap collector (HTTP 307, application/json)"),
        (redirect("file:///etc/passwd", 302), "is not a looptap collector (HTTP 302, application/json)"),
        (gzip_bomb(), "is not a looptap collector: its answer is too large"),
        (endless, "is not a looptap collector: its answer is too large"),
        (continuing, "is not a looptap collector: its answer is too large"),
        (answer(200, b" " * 70_000), "is not a looptap collector: its answer is too large"),
        (answer(404, b"Not here", "text/plain"), "is not a looptap collector (HTTP 404, text/plain)"),
        (answer(200, b"{}", "\x1b[31mred"), "is not a looptap collector (HTTP 200,  [31mred)"),
        (answer(500, b"oh", "text/html"), "answers HTTP 500"),
        (answer(429, b"[" * 60_000), "answers HTTP 429"),
        (refusal(503, "busy", "too many batches"), "answers HTTP 503: too many batches"),
        (refusal(503, "busy", "\\u001b[31m\\r\\nX"), "answers HTTP 503:  [31m  X"),
        (refusal(401, "unauthenticated", "no such token"), "does not let us in (HTTP 401): no such token"),
        (answer(403, b"", "text/html"), "does not let us in (HTTP 403)"),
        (refusal(415, "unsupported", "no zstd here"), "answers HTTP 415: no zstd here"),
        (refusal(421, "misdirected", "not my name"), "answers HTTP 421: not my name"),
    ],
)
def test_trouble_is_one_line(exchange: Exchange, proxy: FaultProxy, fault: Fault, line: str) -> None:
    """Whatever answers, or does not: cases 12, 13, 16 and 42. No request follows by itself."""
    proxy.behave(fault)
    error = outcome(exchange)
    assert isinstance(error, Unavailable)
    assert line in str(error)
    assert proxy.url in str(error)
    assert str(error).isprintable()
    assert isinstance(error, NeedsUser) == ("let us in" in line or "HTTP 415:" in line or "HTTP 421:" in line)
    assert len(proxy.requests) == 1


def test_cut_upload(exchange: Exchange, proxy: FaultProxy) -> None:
    """A connection that is reset in the middle of what we send."""
    proxy.behave(reset_mid_body)
    error = outcome(exchange, "POST", b"x" * 5_000_000)
    assert "cannot be reached" in str(error)


def test_nobody_there(exchange: Exchange, settings: Settings) -> None:
    """No listener, no such name, no proxy."""
    for address, line in [
        ("http://127.0.0.1:1", "cannot be reached: Connection refused"),
        ("http://localhost:1", "cannot be reached: Connection refused"),
        ("https://nowhere.invalid", "cannot be reached: "),
    ]:
        error = outcome(Exchange(address, settings, seconds=5))
        assert str(error).startswith(f"{address} {line}")


def test_certificate_that_nobody_signed(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line that says how to mend it; with the authority's file named, it works (case 15)."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with FaultProxy("127.0.0.1", collector.port, tls=context) as proxy, authority.cert_pem.tempfile() as bundle:
        error = outcome(Exchange(proxy.url, Settings(token=TOKEN), seconds=5))
        assert isinstance(error, NeedsUser)
        assert "is not trusted" in str(error)
        assert "REQUESTS_CA_BUNDLE" in str(error)
        assert proxy.requests == []
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
        assert isinstance(outcome(Exchange(proxy.url, Settings(token=TOKEN), seconds=5)), Answer)


def test_port_that_does_not_speak_https(collector: Collector, settings: Settings) -> None:
    """https to a port of plain http is told in words, without OpenSSL's."""
    exchange = Exchange(collector.url.replace("http:", "https:"), settings)
    error = outcome(exchange)
    exchange.close()
    assert (
        str(error)
        == f"https://127.0.0.1:{collector.port} cannot be reached: that port does not speak https; http perhaps?"
    )


def test_redirect_is_not_followed(exchange: Exchange, proxy: FaultProxy, collector: Collector) -> None:
    """The host that a redirect names hears nothing, least of all the token (case 16)."""
    with FaultProxy("127.0.0.1", collector.port) as other:
        for status in (301, 302, 303, 307, 308):
            proxy.script(redirect(f"{other.url}{ASKED}", status))
            assert isinstance(outcome(exchange), Unavailable)
        assert other.requests == []
        assert other.connections == 0


def test_cookies_are_not_kept(exchange: Exchange, proxy: FaultProxy) -> None:
    """What a server wants us to remember is forgotten."""
    proxy.script(answer(200, b"{}", Set_Cookie="spy=1; Path=/"))
    for _ in range(3):
        outcome(exchange)
    assert all("cookie" not in seen.headers for seen in proxy.requests)


def test_passwords_of_netrc_are_not_sent(
    exchange: Exchange, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """~/.netrc is for other programs."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    outcome(exchange)
    outcome(Exchange(proxy.url, Settings(), seconds=5))
    assert [seen.headers.get("authorization") for seen in proxy.requests] == [f"Bearer {TOKEN}", None]


def test_proxies(collector: Collector, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy of the environment is used for a collector elsewhere, and not for one on this machine."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, proxy.url)
    near = Exchange(collector.url, Settings(token=TOKEN), seconds=5)
    assert isinstance(outcome(near), Answer)
    assert proxy.requests == []
    proxy.behave(answer(200, b"{}"))
    assert isinstance(outcome(Exchange("http://collector.example", Settings(), seconds=5)), Answer)
    assert proxy.requests[0].path == f"http://collector.example{ASKED}"
    proxy.behave(answer(407, b"", "text/html"))
    far = outcome(Exchange("https://collector.example", Settings(token=TOKEN), seconds=5))
    assert "Tunnel connection failed: 407" in str(far)
    assert proxy.requests[-1].method == "CONNECT"
    assert "authorization" not in proxy.requests[-1].headers


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ("7", 7),
        ("0", 0),
        ("100000", 300),
        ("soon", 0),
        ("-5", 0),
        ("1e3", 0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("९", 9),
    ],
)
def test_retry_after(exchange: Exchange, proxy: FaultProxy, told: str, seconds: float) -> None:
    """Seconds, five minutes at most; what makes no sense or is past is nothing."""
    proxy.behave(refusal(503, "busy", retry_after=told) if told.isascii() else refusal(503, "busy", retry_after=9))
    error = outcome(exchange)
    assert isinstance(error, Unavailable)
    assert error.retry_after == seconds


def test_retry_after_a_date(exchange: Exchange, proxy: FaultProxy) -> None:
    """A date counts from now."""
    proxy.behave(refusal(429, "busy", retry_after=email.utils.formatdate(time.time() + 100, usegmt=True)))
    error = outcome(exchange)
    assert isinstance(error, Unavailable)
    assert 90 < error.retry_after < 101


def test_token_that_was_changed_is_read_again(collector: Collector, proxy: FaultProxy, tmp_path: Path) -> None:
    """A refused token is looked up once more, and a new one is tried at once (case 11)."""
    file = tmp_path / "config" / "looptap" / "token"
    file.parent.mkdir(parents=True)
    file.touch(0o600)
    file.write_text(TOKEN)
    exchange = Exchange(proxy.url, seconds=5)
    assert isinstance(outcome(exchange), Answer)
    other = new_token()
    collector.keep_out(TOKEN)
    collector.let_in(other)
    assert isinstance(outcome(exchange), NeedsUser)
    file.write_text(other)
    assert isinstance(outcome(exchange), Answer)
    assert [seen.headers["authorization"] for seen in proxy.requests] == [f"Bearer {TOKEN}"] * 3 + [f"Bearer {other}"]


@pytest.mark.parametrize(
    "address",
    [
        "https://me:secret@host",
        "https://lt_token@host",
        "https://host?token=secret",
        "https://host/#secret",
        "https://",
    ],
)
def test_addresses_that_are_refused(address: str) -> None:
    """An address with something secret in it is not used, nor shown."""
    with pytest.raises(NeedsUser) as caught:
        Exchange(address)
    assert "secret" not in str(caught.value)


def test_token_is_in_no_error_and_no_log(
    exchange: Exchange, proxy: FaultProxy, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither what we raise, with all that hangs on it, nor any logger, nor a server that tells our token back gives it away."""
    caplog.set_level(logging.DEBUG)
    told_back = refusal(503, "busy", f"bad token {TOKEN}")
    for fault in (
        silent,
        truncated,
        lost_answer,
        endless,
        portal(),
        told_back,
        refusal(401, "no", TOKEN),
        redirect("http://a"),
    ):
        proxy.behave(fault)
        error = outcome(exchange)
        assert isinstance(error, Unavailable)
        assert TOKEN not in "".join(traceback.format_exception(error))
        # The errors of requests have the request with them.
        assert error.__cause__ is None
        assert error.__context__ is None
    assert TOKEN not in repr(exchange)
    assert TOKEN not in caplog.text
    assert TOKEN not in "".join(capfd.readouterr())


def test_nothing_is_left_open(collector: Collector, proxy: FaultProxy, settings: Settings) -> None:
    """A closed exchange leaves no socket behind, whatever happened to it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        for fault in (truncated, endless, portal(), silent):
            proxy.behave(fault)
            exchange = Exchange(proxy.url, settings, seconds=0.5)
            outcome(exchange)
            exchange.close()
            del exchange
        gc.collect()
    assert not [warning for warning in caught if "_Socket" in str(warning.message)]
