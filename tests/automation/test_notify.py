"""Who is told, by real HTTP and SMTP servers: what arrives, what is tried again, what is not, and what is never shown."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import Message
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from noria.automation import telling
from noria.errors import Invalid
from tests.automation import firings
from tests.conftest import Running

SECRET = "opensesame-4711"


class Receiver(ThreadingHTTPServer):
    """Answers with what it was told to answer with, the last of them for good, and keeps what came."""

    def __init__(self) -> None:
        self.got: list[tuple[str, Message, bytes]] = []
        self.answers: list[tuple[int, dict[str, str]]] = [(200, {})]
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, self.headers, body))
        answers = self.server.answers
        status, headers = answers.pop(0) if len(answers) > 1 else answers[0]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        text = b"no_service" if status >= 400 else b"ok"
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Running]:
    """A server whose engine knows a secret."""
    monkeypatch.setenv("CI_SECRET", SECRET)
    running = Running(tmp_path / "home")
    yield running
    running.stop()


def shown(server: Running, told: Any) -> str:
    """All that anybody can see of a firing: its history, and the server's log."""
    return msgspec.json.encode(told).decode() + (server.folder / "server.log").read_text()


def test_a_program_is_told_by_a_signed_webhook(engine: Running, receiver: Receiver) -> None:
    step = {"notify": "webhook", "url": f"{receiver.url}/hook?token=a", "secret_env": "CI_SECRET", "text": "{event.what} is new",
            "headers_env": {"Authorization": "CI_SECRET"}}  # fmt: skip
    told = firings.done(engine.client, [{"note": "first"}, step], what="digits")
    assert told.firing.state == "done", told.firing.note
    ((path, headers, body),) = receiver.got
    said = json.loads(body)
    assert path == "/hook?token=a" and said["text"] == "digits is new" and said["rule"] == "rule"
    assert said["event"]["subject"]["what"] == "digits" and said["steps"] == [{"note": "first"}]
    key, moment = headers["Idempotency-Key"], headers["X-MLflow-Timestamp"]
    digest = hmac.digest(SECRET.encode(), f"{key}.{moment}.".encode() + body, hashlib.sha256)
    assert headers["X-MLflow-Signature"] == f"v1,{base64.b64encode(digest).decode()}"
    assert headers["Authorization"] == SECRET
    assert SECRET not in shown(engine, told)


def test_who_may_answer_later_is_asked_again_with_the_same_key(engine: Running, receiver: Receiver) -> None:
    receiver.answers = [(503, {}), (408, {}), (200, {})]
    told = firings.done(engine.client, [{"notify": "webhook", "url": receiver.url}])
    assert told.firing.state == "done" and [line.state for line in told.lines] == ["again", "again", "done"]
    assert len({headers["Idempotency-Key"] for _, headers, _ in receiver.got}) == 1
    receiver.answers = [(500, {})]
    told = firings.done(engine.client, [{"notify": "webhook", "url": receiver.url}], name="never")
    assert told.firing.state == "failed" and "answered 500: no_service. That was try 3, and the last." in told.firing.note


def test_retry_after_is_kept(engine: Running, receiver: Receiver) -> None:
    receiver.answers = [(429, {"Retry-After": "1"}), (200, {})]
    told = firings.done(engine.client, [{"notify": "webhook", "url": receiver.url}])
    assert [line.state for line in told.lines] == ["waiting", "done"] and "It is tried again in 1 s" in told.lines[0].note
    assert told.lines[1].time - told.lines[0].time >= 1000 and len(receiver.got) == 2


@pytest.mark.parametrize("status", [400, 401, 404, 410, 301])
def test_what_is_refused_is_not_sent_again(engine: Running, receiver: Receiver, status: int) -> None:
    receiver.answers = [(status, {"Location": "http://127.0.0.1:1/elsewhere"} if status < 400 else {})]
    told = firings.done(engine.client, [{"notify": "webhook", "url": f"{receiver.url}/T0/{SECRET}"}])
    assert told.firing.state == "failed" and [line.state for line in told.lines] == ["failed"] and len(receiver.got) == 1
    assert f"{receiver.url} answered {status}" in told.firing.note
    assert SECRET not in shown(engine, told)


def test_slack_and_teams(engine: Running, receiver: Receiver, tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text(f"{receiver.url}/services/{SECRET}\n")
    slack = {"notify": "slack", "url_file": str(file), "text": "*{rule}*: <!channel> & {event.why}"}
    teams = {"notify": "slack", "url_file": str(file), "style": "teams"}
    told = firings.done(engine.client, [slack, teams], why="a > b")
    assert told.firing.state == "done" and SECRET not in shown(engine, told)
    first, second = (json.loads(body) for _, _, body in receiver.got)
    assert first == {"text": "*rule*: &lt;!channel&gt; &amp; a &gt; b"}
    card = second["attachments"][0]["content"]
    assert card["type"] == "AdaptiveCard" and "rule: manual" in card["body"][0]["text"]


class Mailbox:
    """What aiosmtpd hands over; `refuse` is what it says to recipients, by their address."""

    def __init__(self) -> None:
        self.mails: list[tuple[list[str], Any]] = []
        self.refuse: dict[str, list[str]] = {}

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        says = self.refuse.get(address, [])
        said = (says.pop(0) if len(says) > 1 else says[0]) if says else "250 OK"
        if said.startswith("250"):
            envelope.rcpt_tos.append(address)
        return said

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.mails.append((envelope.rcpt_tos, message_from_bytes(envelope.content, policy=policy.default)))
        return "250 OK"


def certificate(folder: Path) -> tuple[Path, Path]:
    """A key and a certificate for localhost, which vouches for itself."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=1))
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    pem, secret = folder / "cert.pem", folder / "key.pem"
    pem.write_bytes(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    secret.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    return pem, secret


class Post:
    """A server of mail, which takes letters after STARTTLS and a password, or without both."""

    def __init__(self, folder: Path, *, safe: bool) -> None:
        self.box, self.pem = Mailbox(), folder / "cert.pem"
        options: dict[str, Any] = {}
        if safe:
            pem, key = certificate(folder)
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(pem, key)
            options = {"tls_context": tls, "require_starttls": True, "auth_required": True, "authenticator": self._knows}
        self._controller = Controller(self.box, hostname="localhost", port=_free_port(), **options)

    def _knows(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        known = isinstance(data, LoginPassword) and (data.login, data.password) == (b"noria", SECRET.encode())
        return AuthResult(success=known, handled=False)  # The server answers.

    def __enter__(self) -> Post:
        self._controller.start()
        self.server = f"localhost:{self._controller.port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._controller.stop()


def _free_port() -> int:
    import socket

    with socket.socket() as found:
        found.bind(("localhost", 0))
        return int(found.getsockname()[1])


def test_mail_is_written_by_tls_with_a_password(engine: Running, tmp_path: Path) -> None:
    with Post(tmp_path, safe=True) as post:
        step = {"notify": "email", "to": ["ada@example.org", "Eve <eve@example.org>"], "from": "noria@example.org", "server": post.server,
                "user": "noria", "password_env": "CI_SECRET", "ca_file": str(post.pem), "subject": "{rule}\nis done", "text": "Grüße: {event.why}"}  # fmt: skip
        told = firings.done(engine.client, [step], why="ä")
        assert told.firing.state == "done" and "were written to" in told.firing.note, told.firing.note
        ((recipients, mail),) = post.box.mails
        assert recipients == ["ada@example.org", "eve@example.org"] and mail["Subject"] == "rule is done"
        assert mail.get_content().strip() == "Grüße: ä" and mail["Message-ID"] and mail["Auto-Submitted"] == "auto-generated"
        assert SECRET not in shown(engine, told)
        wrong = tmp_path / "password"
        wrong.write_text("wrong")
        told = firings.done(engine.client, [{**step, "password_env": "", "password_file": str(wrong)}], name="wrong", why="")
        assert "refused it (535" in told.firing.note and "Correct user and password." in told.firing.note
        told = firings.done(engine.client, [{**step, "ca_file": ""}], name="unknown", why="")
        assert "a certificate that nobody here believes" in told.firing.note and len(told.lines) == 1
        assert len(post.box.mails) == 1


def test_mail_that_is_refused_for_now_is_written_again(engine: Running, tmp_path: Path) -> None:
    with Post(tmp_path, safe=False) as post:
        post.box.refuse = {"grey@example.org": ["451 try later", "250 OK"], "gone@example.org": ["550 no such user"]}
        step = {"notify": "email", "to": "grey@example.org", "from": "noria@example.org", "server": post.server, "tls": "none"}
        told = firings.done(engine.client, [step], name="grey")
        assert [line.state for line in told.lines] == ["again", "done"] and "451 try later" in told.lines[0].note
        told = firings.done(engine.client, [{**step, "to": "gone@example.org"}], name="gone")
        assert told.firing.state == "failed" and "refused it (550 no such user)" in told.firing.note and len(told.lines) == 1
        told = firings.done(engine.client, [{**step, "to": "gone@example.org, ada@example.org"}], name="some")
        assert told.firing.state == "done" and "refused gone@example.org" in told.firing.note
        told = firings.done(engine.client, [{**step, "tls": "starttls"}], name="no TLS")
        assert told.firing.state == "failed" and "cannot do what it is asked for" in told.firing.note
    told = firings.done(engine.client, [step], name="nobody")
    assert told.firing.state == "failed" and "cannot be told" in told.firing.note and len(told.lines) == 3


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ({"notify": "pigeon"}, "knows no 'pigeon'"),
        ({"notify": "webhook"}, "has nobody to tell"),
        ({"notify": "webhook", "url": "ftp://x"}, "no address"),
        ({"notify": "webhook", "url": "https://ada:secret@example.org/"}, "a name and a password in it"),
        ({"notify": "webhook", "url": "https://example.org", "url_env": "X"}, "url and url_env"),
        ({"notify": "webhook", "url": "https://example.org", "colour": "red"}, "colour"),
        ({"notify": "slack"}, "which is a secret"),
        ({"notify": "slack", "url_env": "X", "to": "ada"}, "no setting 'to'"),
        ({"notify": "slack", "url_env": "X", "style": "irc"}, "style"),
        ({"notify": "slack", "url_env": "X", "text": ["a"]}, "'text' is no text"),
        ({"notify": "email", "to": "ada@example.org"}, "needs 'server'"),
        ({"notify": "email", "to": "ada", "server": "mail"}, "no address of mail"),
        ({"notify": "email", "to": "ada@example.org", "server": "mail:x"}, "is no server"),
        ({"notify": "email", "to": "ada@example.org", "server": "mail", "user": "ada"}, "a user and no password"),
        ({"notify": "email", "to": "a@b.c", "server": "mail", "user": "a", "password_env": "X", "tls": "none"}, "in the clear"),
        ({"notify": "email", "to": "a@b.c", "server": "mail", "password": "x"}, "password"),
    ],
)
def test_what_can_never_work_is_refused_when_the_rule_is_added(server: Running, step: dict[str, Any], said: str) -> None:
    with pytest.raises(Invalid, match=said):
        firings.add(server.client, "wrong", {"manual": True}, [step])


def test_a_secret_that_is_not_there_is_said(engine: Running, tmp_path: Path) -> None:
    told = firings.done(engine.client, [{"notify": "slack", "url_env": "NOT_SET"}])
    assert "url_env names NOT_SET, which is not set where the engine runs" in told.firing.note
    told = firings.done(engine.client, [{"notify": "slack", "url_file": str(tmp_path / "nowhere")}], name="file")
    assert "cannot be read (No such file or directory)" in told.firing.note


def test_when_to_come_back_is_read_as_seconds_or_as_a_date() -> None:
    def seconds(text: str) -> float:
        headers = Message()
        headers["Retry-After"] = text
        return telling.after(headers)

    assert seconds("120") == 120 and seconds("soon") == 0 and seconds("-5") == 0
    assert 55 < seconds(format_datetime(datetime.now(UTC) + timedelta(minutes=1), usegmt=True)) <= 60
    assert seconds("999999999") == 6 * 3600
