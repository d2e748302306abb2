"""E-mail addresses, IP addresses, and street addresses as far as a pattern can tell them."""

import re
from collections.abc import Iterator
from ipaddress import ip_address

from drift.logs.redaction.span import Detector, Span

_EMAIL = re.compile(
    r"(?<![\w.%+-])[\w%+-][\w.%+-]{0,63}@(?:[^\W_](?:[\w-]{0,62}[^\W_])?\.){1,8}(?:xn--[\w-]{2,59}|[^\W\d_]{2,24})(?![\w@])"
)
_FILES = {
    "png",
    "jpg",
    "jpeg",
    "gif",
    "svg",
    "webp",
    "ico",
    "css",
    "scss",
    "js",
    "ts",
    "jsx",
    "tsx",
    "json",
    "html",
    "pdf",
    "mp4",
    "py",
}

_IPV4 = re.compile(r"(?<![\w.-])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![\w-]|\.[0-9])", re.ASCII)
# What stands before a version: `v1.2.3.4`, `version 1.2.3.4`, `Chrome/1.2.3.4`, `==1.2.3.4`, `§ 1.2.3.4`
_VERSION_BEFORE = re.compile(
    r"(?:\b(?:v|ver|version|versions|release|build|firmware|update|upgrade|revision|rev|section|chapter|sec|clause|table"
    r"|figure|eq|exercise|problem|oid|assemblyversion|fileversion)\b[\s.:=\"'(]{0,4}|[A-Za-z]/|[=~<>]=\s?|\^|§\s?|@)$",
    re.IGNORECASE,
)
_HEADING_AFTER = re.compile(r"\.?[ \t]+[A-Z][a-z]")
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{0,4}(?![\w:])", re.IGNORECASE | re.ASCII)

_HOUSE = r"(?<![\w./$€£#-])(?:(?<![0-9],)|(?![0-9]{3}\b))[0-9]{1,5}(?:-[0-9]{1,5})?[A-Za-z]?"
_NAME = r"(?:(?:[NSEW]|NE|NW|SE|SW|St|Saint|Mt|Dr|[0-9]{1,3}(?:st|nd|rd|th)|[A-Z][\w'’]{1,20})\.?[ ]){1,4}"
_SUFFIX = (
    r"(?:Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|Parkway|Pkwy|Highway|Hwy|Terrace|Crescent"
    r"|Circle|Cir|Close|Gardens|Grove|Square|Sq|Place|Pl|Trail|Way|Loop|Mews)"
)
_UNIT = r"(?:,? (?:Apt|Apartment|Unit|Suite|Ste|Floor|Fl|Flat|Room|Rm|#)\.? ?#?\w{1,6})?"
_TOWN = (
    r"(?:,? (?:[A-Z][\w'’.-]{1,20} ?){1,3},? [A-Z]{2},? [0-9]{5}(?:-[0-9]{4})?"
    r"|,? (?:[A-Z][\w'’.-]{1,20} ?){1,3},? [A-Z]{1,2}[0-9][0-9A-Z]? [0-9][A-Z]{2})?"
)
_POSTCODE = r"(?:,? [0-9]{4,5} [A-ZÄÖÜÉ][\w'’-]{2,25})?"
_GERMAN = r"[ ][0-9]{1,4}[ ]?[a-z]?\b"
_FRENCH = r"(?:rue|avenue|av\.|boulevard|bd|chemin|allée|impasse|quai|place|cours)"
_SOUTHERN = r"(?:Calle|C/|Avenida|Avda\.|Plaza|Paseo|Carrera|Rua|Travessa|Via|Viale|Piazza|Corso|Largo)"
_STREET = re.compile(
    rf"{_HOUSE} {_NAME}{_SUFFIX}\b\.?{_UNIT}{_TOWN}"
    rf"|\b[A-ZÄÖÜ][\wäöüß-]{{2,30}}(?:straße|strasse|str\.|weg|allee|gasse|platz|damm|ufer){_GERMAN}{_POSTCODE}"
    r"|\b(?:[A-ZÄÖÜ][\wäöüß-]{1,25}[ -]){1,3}(?:Straße|Strasse|Str\.|Weg|Allee|Gasse|Platz|Damm|Ufer)"
    rf"{_GERMAN}{_POSTCODE}"
    rf"|(?<![\w./-])[0-9]{{1,4}}(?: ?(?:bis|ter))?,? {_FRENCH} (?:(?:de|du|des|la|le|les|l'|d'|sainte?)[ -]?){{0,3}}"
    rf"[A-ZÉÈ][\w'’-]{{1,25}}(?:[ -][A-ZÉÈ][\w'’-]{{1,25}}){{0,3}}{_POSTCODE}"
    rf"|\b{_SOUTHERN} (?:(?:de|del|da|do|dos|das|della|dei|di|la|las|los|el|San|Santa|São)[ ]){{0,3}}"
    r"[A-ZÁÉÍÓÚ][\w'’.-]{1,25}(?: (?:e |y |de |da )?[A-ZÁÉÍÓÚ][\w'’.-]{1,25}){0,3},? (?:n[º°.]? ?)?"
    rf"[0-9]{{1,4}}\b(?!%|[.,:][0-9]){_POSTCODE}"
)
_NO_STREET = re.compile(
    r"(?:The|Best|Top|Great|Easy|Simple|Ways|Different|New|Key|Quick|Main Points|Good|Free|Other)\b"
)


def emails(text: str) -> Iterator[Span]:
    for match in _EMAIL.finditer(text):
        local, _, domain = match[0].rpartition("@")
        is_file = domain.rpartition(".")[2].lower() in _FILES
        is_git = local == "git" and text.startswith(":", match.end())
        if not is_file and not is_git:
            yield Span(*match.span(), "email", match[0].lower())


def ipv4(text: str) -> Iterator[Span]:
    for match in _IPV4.finditer(text):
        octets = [int(octet) for octet in match[0].split(".")]
        if max(octets) > 255 or octets[0] in (0, 127, 255) or octets[:2] == [169, 254]:
            continue  # no address, or one that every machine has
        before = text[max(match.start() - 20, 0) : match.start()]
        begins_line = not before.rpartition("\n")[2].strip(" \t#*-")
        is_heading = begins_line and max(octets) < 30 and _HEADING_AFTER.match(text, match.end())
        if not is_heading and not _VERSION_BEFORE.search(before):
            yield Span(*match.span(), "ip", match[0])


def ipv6(text: str) -> Iterator[Span]:
    for match in _IPV6.finditer(text):
        try:
            address = ip_address(match[0])
        except ValueError:
            continue
        groups = [group for group in match[0].split(":") if group]
        # `a::b` is more often a name in a program than an address.
        told = len(groups) > 3 or (len(groups) > 1 and any(len(g) > 2 and re.search("[0-9]", g) for g in groups))
        if told and not address.is_loopback and not address.is_multicast:
            yield Span(*match.span(), "ip", address.compressed)


def streets(text: str) -> Iterator[Span]:
    for match in _STREET.finditer(text):
        if not _NO_STREET.search(match[0]):
            yield Span(*match.span(), "address", " ".join(match[0].lower().split()))


DETECTORS = (
    Detector(r"@[^\s@.]+\.", emails),
    Detector(r"\d\.\d{1,3}\.\d{1,3}\.\d", ipv4),
    Detector(r"[0-9a-fA-F:]:[0-9a-fA-F]{0,4}:[0-9a-fA-F:]?", ipv6),
    Detector(
        rf"\d[A-Za-z]? (?:[A-Z0-9][^\s,;:]* ){{1,4}}{_SUFFIX}"
        r"|(?:[sS]traße|[sS]trasse|[sS]tr\.|[wW]eg|[aA]llee|[gG]asse|[pP]latz|[dD]amm|[uU]fer) \d"
        rf"|{_FRENCH} (?:d|l|s|[A-ZÉÈ])"
        rf"|{_SOUTHERN} ",
        streets,
    ),
)
