"""An e-mail by SMTP.

    {notify = "email", to = "ml@example.org", server = "smtp.example.org", user = "noria", password_env = "SMTP_PASSWORD"}
    {notify = "email", to = ["a@example.org", "b@example.org"], server = "localhost:25", tls = "none", subject = "{rule} failed"}

to: an address, or a list of them. from: whose it is; left out, the user at this machine. server: HOST or HOST:PORT. tls: "starttls" (port 587, usual), "tls" (port 465) or
"none" (port 25), which takes no password. user, and password_env or password_file: where the password is, never the password itself. ca_file:
whom to believe besides the public authorities. subject: left out, it is the title.

The Message-ID is made of the step's key: mail that is sent twice has the same one, and most readers show it once.
"""

from __future__ import annotations

import hashlib
import smtplib
import socket
import ssl
from email.message import EmailMessage
from email.utils import formatdate, parseaddr
from typing import Literal

from msgspec import Struct, field

from noria.automation import telling
from noria.automation.notices import Message
from noria.errors import Invalid, Unavailable
from noria.process import whoami

_WHO = "The notice 'email'"
_PORTS = {"starttls": 587, "tls": 465, "none": 25}
_SUBJECT = 200


class Settings(Struct, frozen=True, kw_only=True):
    to: str | list[str]
    server: str
    sender: str = field(default="", name="from")
    subject: str = ""
    tls: Literal["starttls", "tls", "none"] = "starttls"
    user: str = ""
    password_env: str = ""
    password_file: str = ""
    ca_file: str = ""


def check(settings: Settings) -> None:
    for each in (*_to(settings), *filter(None, [settings.sender])):
        if "{" not in each and not _is_address(each):
            raise Invalid(f"{_WHO}: {each[:100]!r} is no address of mail.", "Write NAME@HOST.")
    if not _to(settings):
        raise Invalid(f"{_WHO} has nobody to write to.", 'Write to = "NAME@HOST".')
    telling.at_most_one(_WHO, password_env=settings.password_env, password_file=settings.password_file)
    has_password = bool(settings.password_env or settings.password_file)
    if has_password != bool(settings.user):
        raise Invalid(f"{_WHO} has {'a password and no user' if has_password else 'a user and no password'}.",
                      "Write user, and password_env or password_file, or none of them.")  # fmt: skip
    if has_password and settings.tls == "none":
        raise Invalid(f"{_WHO} would send its password in the clear.", 'Write tls = "starttls" or "tls".')
    if "{" not in settings.server:
        _server(settings)


def _to(settings: Settings) -> list[str]:
    named = settings.to.split(",") if isinstance(settings.to, str) else settings.to
    return [each.strip() for each in named if each.strip()]


def _is_address(text: str) -> bool:
    _, found = parseaddr(text)
    name, at, host = found.rpartition("@")
    return bool(name and at and host) and not any(each < " " for each in text) and " " not in found


def _server(settings: Settings) -> tuple[str, int]:
    host, colon, port = settings.server.rpartition(":")
    if not colon:
        return settings.server, _PORTS[settings.tls]
    if not host or not port.isdigit() or not 0 < int(port) < 65_536:
        raise Invalid(f"{_WHO}: {settings.server[:100]!r} is no server.", "Write HOST or HOST:PORT.")
    return host, int(port)


def send(settings: Settings, message: Message) -> str:
    mail = _mail(settings, message)
    where = settings.server
    password = telling.secret("password", "", settings.password_env, settings.password_file, _WHO)
    try:
        with _connected(settings) as server:
            if settings.user:
                server.login(settings.user, password)
            refused = server.send_message(mail)
    except smtplib.SMTPRecipientsRefused as error:
        raise _said(where, *next(iter(error.recipients.values()))) from None
    except smtplib.SMTPResponseException as error:
        raise _said(where, error.smtp_code, error.smtp_error) from None
    except smtplib.SMTPNotSupportedError as error:
        raise Invalid(
            f"{where} cannot do what it is asked for ({error}).", 'Is tls right? It is "starttls", "tls" or "none".'
        ) from None
    except ssl.SSLCertVerificationError as error:
        raise Invalid(f"{where} shows a certificate that nobody here believes ({error.verify_message}).",
                      "Name its authority with ca_file, or its right name with server.") from None  # fmt: skip
    except (smtplib.SMTPException, OSError) as error:
        raise Unavailable(f"{where} cannot be told ({str(error)[:200] or type(error).__name__}).") from None
    told = [each for each in _to(settings) if parseaddr(each)[1] not in refused]
    lost = f"; {where} refused {', '.join(refused)}" if refused else ""
    return f"{', '.join(told)} was written to{lost}" if len(told) == 1 else f"{', '.join(told)} were written to{lost}"


def _connected(settings: Settings) -> smtplib.SMTP:
    host, port = _server(settings)
    if settings.tls == "none":
        return smtplib.SMTP(host, port, timeout=telling.SECONDS)
    try:
        tls = ssl.create_default_context(cafile=settings.ca_file or None)
    except OSError as error:
        raise Invalid(f"{_WHO}: ca_file is {settings.ca_file}, which cannot be read ({error}).", "Name a PEM file.") from None
    if settings.tls == "tls":
        return smtplib.SMTP_SSL(host, port, timeout=telling.SECONDS, context=tls)
    server = smtplib.SMTP(host, port, timeout=telling.SECONDS)
    try:
        server.starttls(context=tls)
    except BaseException:
        server.close()
        raise
    return server


def _mail(settings: Settings, message: Message) -> EmailMessage:
    mail = EmailMessage()
    sender = settings.sender or f"{whoami()}@{socket.gethostname()}"
    host = parseaddr(sender)[1].rpartition("@")[2]
    mail["From"], mail["To"] = sender, ", ".join(_to(settings))
    mail["Subject"] = " ".join((settings.subject or message.title).split())[:_SUBJECT]
    mail["Date"] = formatdate(localtime=True)
    mail["Message-ID"] = f"<{hashlib.sha256(message.key.encode()).hexdigest()[:40]}@{host}>"
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no answering machine answers.
    mail.set_content(message.text)
    return mail


def _said(where: str, code: int, text: bytes | str) -> Exception:
    """4xx is for now and 5xx for good (RFC 5321, 4.2.1)."""
    said = " ".join((text.decode(errors="replace") if isinstance(text, bytes) else text).split())[:200]
    if 400 <= code < 500 or code < 0:
        return Unavailable(f"{where} does not take mail now ({code} {said}).")
    cure = "Correct user and password." if code in (530, 534, 535) else "Correct the addresses, or ask whoever runs it."
    return Invalid(f"{where} refused it ({code} {said}).", cure)
