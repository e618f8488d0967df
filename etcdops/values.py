"""What a value in config.yaml may be: the types of its keys, each with what to write instead."""

from __future__ import annotations

import ipaddress
import re
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator

from etcdops import layout

SUPPORTED_MINORS = ("3.4", "3.5", "3.6", "3.7")
UNIT_SECTIONS = ("Unit", "Service", "Install")


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", value):
        raise ValueError("use letters, digits, '.', '_' and '-', at most 63, with a letter or digit at both ends")
    return value


def _member_name(value: str) -> str:
    if value == "default":
        raise ValueError("'default' is the name of every etcd that nobody named; choose another")
    return _name(value)


def _address(value: str) -> str:
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        raise ValueError(
            f"{value!r} is not an IP address, and etcd listens on IP addresses only; put the address "
            "here and a host name, if that is how you reach it, under 'ssh'"
        ) from None
    if address.is_loopback or address.is_unspecified or address.is_multicast or address.is_link_local:
        raise ValueError(f"{value!r} cannot be reached from the other members")
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id:
            raise ValueError(f"{value!r}: leave out the '%' and what follows; it means something on one host only")
        if address.ipv4_mapped:
            raise ValueError(f"{value!r}: write it as {address.ipv4_mapped}")
    return str(address)


def _version(value: object) -> object:
    number = "(?:0|[1-9][0-9]{0,4})"
    match = re.fullmatch(rf"v?({number}\.{number})\.{number}", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("write all three parts of an etcd release, such as 3.6.14")
    if match[1] not in SUPPORTED_MINORS:
        raise ValueError(f"only {', '.join(SUPPORTED_MINORS)} are supported")
    return str(value).removeprefix("v")


def _hours(value: object) -> object:
    match = re.fullmatch(r"([0-9]{1,7})([hd])", value) if isinstance(value, str) else None
    if match is None or int(match[1]) == 0:
        raise ValueError("write hours or days, such as 8760h or 365d")
    return timedelta(hours=int(match[1]) * (24 if match[2] == "d" else 1))


def _interval(value: object) -> object:
    match = re.fullmatch(r"([0-9]{1,5})([mhd])", value) if isinstance(value, str) else None
    interval = timedelta(minutes=int(match[1]) * {"m": 1, "h": 60, "d": 1440}[match[2]]) if match else timedelta()
    day = timedelta(days=1)
    # What systemd's calendar can say in a way that is the same on all hosts.
    if interval < timedelta(minutes=15) or (day % interval and interval != 7 * day):
        raise ValueError("write a time from 15m that divides a day, such as 6h, or 1d or 7d")
    return interval


def _url(value: str) -> str:
    good = re.fullmatch(r"(https?|file)://[^\s\"'`\\]+", value) is not None
    try:
        parts = urlsplit(value)
        good &= parts.scheme == "file" or (bool(parts.hostname) and parts.port != 0)
    except ValueError:  # a port that is no number, a bracket that nothing closes
        good = False
    if not good:
        raise ValueError("write an http, https or file URL")
    _text(value)
    for field in re.findall(r"\{(.*?)\}", value):
        if field not in {"version", "arch"}:
            raise ValueError(f"'{{{field}}}' is unknown: {{version}} and {{arch}} can stand here")
    return value


def _endpoint(value: str) -> str:
    if not value:
        return value
    if not re.match(r"https?:", value) or re.search(r"[{}?#@]", value):
        raise ValueError("write an http or https URL without user, query or fragment")
    return _url(value).rstrip("/")


def _bucket(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]", value):
        raise ValueError("write the name of a bucket: 3 to 63 letters, digits, '.', '-' and '_'")
    return value


def _prefix(value: str) -> str:
    if value and any(part in {"", ".", ".."} for part in value.rstrip("/").split("/")):
        raise ValueError("write it as in backups/prod, without an empty part, '.' or '..'")
    return _text(value).rstrip("/")


def _remote_folder(value: str) -> str:
    if value.startswith("~"):
        raise ValueError("nothing expands '~' there; a path without '/' in front begins at the login's home")
    return _text(_filled(value))


def _host_folder(value: str) -> str:
    """Scripts and units on the hosts take it as it is; on the data disk it would be lost with the data."""
    if not re.fullmatch(r"(/[A-Za-z0-9_][A-Za-z0-9._-]*)+", value):
        raise ValueError("write an absolute path of letters, digits, '.', '_' and '-', such as /var/backups/etcd")
    if f"{value}/".startswith((f"{layout.DATA_DIR}/", f"{layout.CONF_DIR}/", f"{layout.RELEASES}/")):
        raise ValueError("etcd's own folders are no place for backups")
    return value


def _recipient(value: str) -> str:
    if value.upper().startswith("AGE-SECRET-KEY-"):
        raise ValueError("this is the secret key: put the public one here, age1..., and make a new pair")
    if not re.fullmatch(r"age1[0-9a-z]{20,}", value):
        raise ValueError("a recipient of age begins with age1, as age-keygen prints it")
    with suppress(ImportError):  # where it is missing, whoever encrypts will say so
        import pyrage

        try:
            pyrage.x25519.Recipient.from_str(value)
        except pyrage.RecipientError as error:
            raise ValueError(f"this is no recipient of age, for one letter at least is wrong: {error}") from None
    return value


def _given(value: object) -> object:
    if value is None:
        raise ValueError("is empty: give it a value, or leave it out")
    return value


def _sha256(value: str) -> str:
    if value and not re.fullmatch(r"[0-9a-fA-F]{64}", value):
        raise ValueError("a SHA-256 sum has 64 hexadecimal digits")
    return value.lower()


def _text(value: str) -> str:
    # Line separators of Unicode and lone surrogates are unprintable, too: none survives a file of NAME=VALUE lines.
    if not value.isprintable():
        raise ValueError("line breaks, control characters and other invisible ones cannot stand here")
    return value


def _path(value: str) -> str:
    try:
        Path(_text(value)).expanduser()
    except RuntimeError:
        raise ValueError(f"there is no user '{value.partition('/')[0].removeprefix('~')}' here") from None
    return value


def _filled(value: str) -> str:
    if not value:
        raise ValueError("must not be empty")
    return value


def _no_dash(value: str) -> str:
    if value.startswith("-") or re.search(r"\s", value):
        raise ValueError("a host or alias has no spaces and does not begin with '-'")
    return _text(value)


def _user_name(value: str) -> str:
    if ":" in value or re.search(r"\s", value):
        raise ValueError("write the name of a user of etcd alone, without blanks; its password stands nowhere")
    return _text(value)


def _scalar(value: object) -> object:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bool | int | float):
        return value
    raise ValueError("write text, a number, true or false; text with '{' or '[' in it needs single quotes around it")


def _unit_value(value: object) -> object:
    for each in value if isinstance(value, list) else [value]:
        if str(_scalar(each)).endswith("\\"):
            raise ValueError("a '\\' at the end would make systemd take the next line for a part of this one")
    return value


def _unit_key(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9]+", value):
        raise ValueError("write the name of a unit's setting, such as MemoryMax")
    return value


def _unit_section(value: str) -> str:
    if value not in UNIT_SECTIONS:
        raise ValueError(f"a service has the sections {', '.join(UNIT_SECTIONS)}")
    return value


Name = Annotated[str, AfterValidator(_name)]
MemberName = Annotated[str, AfterValidator(_member_name)]
HostName = Annotated[str, AfterValidator(_no_dash)]
PathName = Annotated[str, AfterValidator(_path)]
PlainText = Annotated[str, AfterValidator(_text)]
FilledPath = Annotated[PathName, AfterValidator(_filled)]
Interval = Annotated[timedelta, BeforeValidator(_interval)]
Lifetime = Annotated[timedelta, BeforeValidator(_hours)]
Scalar = Annotated[bool | int | float | str, BeforeValidator(_scalar)]
UnitKey = Annotated[str, AfterValidator(_unit_key)]
UnitValue = Annotated[bool | int | float | str | list[bool | int | float | str], BeforeValidator(_unit_value)]
UnitSection = Annotated[str, AfterValidator(_unit_section)]
Sha256 = Annotated[str, AfterValidator(_sha256)]
Sha256ByArch = dict[Literal["amd64", "arm64"], Sha256]
Address = Annotated[str, AfterValidator(_address)]
UserName = Annotated[str, AfterValidator(_user_name)]
Version = Annotated[str, BeforeValidator(_version)]
Url = Annotated[str, AfterValidator(_url)]
Bucket = Annotated[str, AfterValidator(_bucket)]
Prefix = Annotated[str, AfterValidator(_prefix)]
Endpoint = Annotated[str, AfterValidator(_endpoint)]
FilledHost = Annotated[HostName, AfterValidator(_filled)]
RemoteFolder = Annotated[str, AfterValidator(_remote_folder)]
HostFolder = Annotated[str, AfterValidator(_host_folder)]
Recipient = Annotated[str, AfterValidator(_recipient)]
Given = BeforeValidator(_given)
