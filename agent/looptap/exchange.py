"""One question to a collector, and its answer.

What answers may be anything: the collector, a proxy before it, the login page of a hotel, somebody else's server. So no redirect
is followed, no cookie kept, nothing decompressed, and no answer read beyond 64 KiB (unless more was asked for) or for longer
than a request may take altogether. Whatever goes wrong is one line that says what and where, without the token.
"""

from __future__ import annotations

import email.utils
import http.client
import ssl
import time
from collections.abc import Mapping
from typing import Annotated, NamedTuple, TypeVar

import msgspec
import requests
import urllib3

import looptap
from looptap import settings as places
from looptap.bounded import BoundedAdapter, TooMuch, allowed
from looptap.credentials import is_loopback, token_for
from looptap.redaction import REDACTED
from looptap.settings import Settings
from looptap.sinks import REQUEST_SECONDS, NeedsUser, Unavailable

ANSWER_BYTES = 64 * 2**10
#: Beside the body; http.client by itself would read megabytes of headers.
_HEAD_BYTES = 64 * 2**10
RETRY_AFTER_SECONDS = 300.0
#: What OpenSSL calls bytes that are not TLS; it depends on its version.
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "UNKNOWN_PROTOCOL")
_MESSAGE_CHARACTERS = 300
#: What a collector does not understand of us, or by what name we ask for it: another version, another address.
_ABOUT_US = (404, 405, 415, 421)

Whole = Annotated[int, msgspec.Meta(ge=0)]
Shape = TypeVar("Shape")


class Problem(msgspec.Struct, frozen=True):
    code: str
    message: str
    field: str | None = None
    hint: str | None = None


class Refusal(msgspec.Struct, frozen=True):
    """The one shape of a collector's errors."""

    error: Problem

    def __str__(self) -> str:
        hint = f"; {self.error.hint}" if self.error.hint else ""
        return f"{self.error.message}{hint}"


class Answer(NamedTuple):
    """``body`` may be anything, and of any type. ``retry_after`` in seconds, 0 when it does not say."""

    status: int
    media_type: str
    body: bytes
    retry_after: float

    def read(self, shape: type[Shape]) -> Shape | None:
        """None when it is not JSON of this shape."""
        try:
            return msgspec.json.decode(self.body, type=shape) if self.media_type == "application/json" else None
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None

    def refusal(self) -> Refusal | None:
        """What a collector has to say against the request; None when it is not a collector that says it."""
        return self.read(Refusal) if self.status >= 400 else None


class Exchange:
    """With one collector, from any thread. ``seconds``: most that a request takes, but for the look-up of the name.
    ``answer_bytes``: most that the body of an answer takes. ``connections`` are kept; further ones are closed after use."""

    def __init__(
        self,
        address: str,
        settings: Settings | None = None,
        *,
        seconds: float = REQUEST_SECONDS,
        answer_bytes: int = ANSWER_BYTES,
        connections: int = 1,
    ) -> None:
        """Raises :class:`NeedsUser` when the address is none that we use, or there is a token that must not be sent to it."""
        try:
            self._address = places.TABLE["store"].metadata["read"](address)
        except ValueError as error:
            raise NeedsUser(f"the store's address cannot be used: {error}") from None
        self._settings = settings
        self._seconds = seconds
        self._answer_bytes = answer_bytes
        self._token = self._find_token()
        self._session = requests.Session()
        found = self._session.merge_environment_settings(self._address, {}, True, None, None)
        self._verify: str | bool = found["verify"] or True
        # A proxy is another machine, where the local token must not go.
        self._proxies = {} if is_loopback(self._address) else found["proxies"]
        self._adapter = BoundedAdapter(pool_connections=1, pool_maxsize=connections)

    def ask(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Answer:
        """Raises :class:`Unavailable` in one line when no whole answer came."""
        answer = self._ask(method, path, body, headers or {})
        if answer.status == 401:
            # It may have been changed since we read it.
            before, self._token = self._token, self._find_token()
            if self._token != before:
                answer = self._ask(method, path, body, headers or {})
        return answer

    def unavailable(self, answer: Answer) -> Unavailable:
        """The error for an answer that is of no use now."""
        refusal = answer.refusal()
        if refusal is None and answer.status not in (401, 403, 429) and answer.status < 500:
            kind = answer.media_type or "nothing"
            return Unavailable(
                f"what answers at {self._address} is not a looptap collector (HTTP {answer.status}, {kind})"
            )
        said = self._printable(f": {refusal}") if refusal else ""
        if answer.status in (401, 403):
            lacking = "" if self._token else " (no token is set: LOOPTAP_TOKEN)"
            return NeedsUser(f"{self._address} does not let us in (HTTP {answer.status}){lacking}{said}")
        line = f"{self._address} answers HTTP {answer.status}{said}"
        if refusal is not None and answer.status in _ABOUT_US:
            return NeedsUser(line)
        return Unavailable(line, answer.retry_after)

    def reason(self, answer: Answer) -> str:
        """Why the collector refuses, as it says."""
        return self._printable(f"{answer.refusal() or f'HTTP {answer.status}'}")

    def close(self) -> None:
        self._adapter.close()
        self._session.close()

    # --- private ------------------------------------------------------------------------------------------------------

    def _find_token(self) -> str | None:
        return token_for(self._address, self._settings or places.load()[0])

    def _ask(self, method: str, path: str, body: bytes, more: Mapping[str, str]) -> Answer:
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", **more}
        headers["User-Agent"] = f"looptap/{looptap.__version__}"
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        try:
            request = requests.Request(method, f"{self._address}{path}", headers=headers, data=body or None).prepare()
            return self._exchange(request)
        except (OSError, ValueError, urllib3.exceptions.HTTPError, http.client.HTTPException) as error:
            failure = self._described(error)
        # Not from within: what requests raises has the request with it, and that the token.
        raise failure

    def _exchange(self, request: requests.PreparedRequest) -> Answer:
        # Past requests.Session, which reads a redirect's whole body, keeps cookies, and takes passwords from ~/.netrc.
        with allowed(self._seconds, _HEAD_BYTES + self._answer_bytes):
            response = self._adapter.send(
                request, stream=True, timeout=self._seconds, verify=self._verify, proxies=self._proxies
            )
            raw, headers = response.raw, response.headers
            try:
                body = bytearray()
                # To the very end: only there urllib3 tells that something is missing.
                while block := raw.read(ANSWER_BYTES, decode_content=False):
                    body += block
                    if len(body) > self._answer_bytes:
                        raise TooMuch("the answer is too large")
            except BaseException:
                raw.close()
                raise
            raw.release_conn()
        media_type = headers.get("Content-Type", "").partition(";")[0].strip().lower()
        return Answer(
            response.status_code, self._printable(media_type), bytes(body), _seconds(headers.get("Retry-After", ""))
        )

    def _described(self, error: BaseException) -> Unavailable:
        cause = _innermost(error)
        if isinstance(cause, ssl.SSLCertVerificationError):
            return NeedsUser(
                f"the certificate of {self._address} is not trusted: {self._printable(cause.verify_message)}"
                "; name the file of its authority in REQUESTS_CA_BUNDLE"
            )
        if isinstance(cause, ssl.SSLError) and cause.reason in _NO_TLS:
            return Unavailable(f"{self._address} cannot be reached: that port does not speak https; http perhaps?")
        if isinstance(cause, TimeoutError) and cause.errno is None:  # with a number it is the kernel's, of a connection
            return Unavailable(f"{self._address} did not answer within {self._seconds:g} s")
        if isinstance(cause, TooMuch):
            return Unavailable(f"what answers at {self._address} is not a looptap collector: its answer is too large")
        text = (cause.strerror if isinstance(cause, OSError) else None) or str(cause) or type(cause).__name__
        return Unavailable(f"{self._address} cannot be reached: {self._printable(text)}")

    def _printable(self, text: str) -> str:
        """Of a stranger's text: short, in one line, without anything that a terminal obeys."""
        if self._token:
            text = text.replace(self._token, REDACTED)
        return "".join(char if char.isprintable() else " " for char in text[:_MESSAGE_CHARACTERS])


def _innermost(error: BaseException) -> BaseException:
    """What requests and urllib3 wrap, each in a sentence of its own."""
    while True:
        within = error.__cause__ or error.__context__
        if not isinstance(within, (OSError, http.client.HTTPException, urllib3.exceptions.HTTPError)):
            return error
        error = within


def _seconds(retry_after: str) -> float:
    """Of a Retry-After header: seconds, or a date."""
    try:
        seconds = float(retry_after) if retry_after.strip().isdecimal() else _until(retry_after)
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return min(max(0.0, seconds), RETRY_AFTER_SECONDS)


def _until(date: str) -> float:
    return email.utils.parsedate_to_datetime(date).timestamp() - time.time()
