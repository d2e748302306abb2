"""Personal data that was never anybody's, by a seed, and the sentences in which it stands in chats.

Check digits, phone formats of countries and lengths of keys come from their standards, not from the detectors.
"""

import base64
import random
import string
from collections.abc import Callable
from ipaddress import ip_address

import phonenumbers
from stdnum import luhn, verhoeff
from stdnum.br import cpf
from stdnum.cn import ric
from stdnum.de import idnr
from stdnum.es import dni, nie
from stdnum.fr import nir
from stdnum.iso7064 import mod_97_10
from stdnum.it import codicefiscale
from stdnum.mx import curp

Make = Callable[[random.Random], str]
CARRIERS = (
    "{}",
    "It is {}.",
    "Please use {} for this, thanks!",
    "I tried with {} but it does not work, what now?",
    "- {}\n- and the other one",
    "Here it is: {}\nCan you put that into a table?",
    'data = {{"value": "{}", "n": 3}}',
    "| name | value |\n|---|---|\n| mine | {} |",
    "> {}\n\nSure! I have noted that for you.",
    "id,value\n1,{}\n2,none",
)
FIRST = ("maria", "john", "wei", "fatima", "lukas", "aoife", "josé", "priya", "kenji", "olu")
LAST = ("silva", "smith", "zhang", "khan", "müller", "obrien", "garcia", "patel", "sato", "adeyemi")
DOMAINS = (
    "gmail.com",
    "outlook.com",
    "example.org",
    "mail.uni-berlin.de",
    "corp.example.co.uk",
    "qq.com",
    "web.de",
    "acme.io",
    "uni.edu.py",
)
ROADS = (
    "Maple",
    "Oak Hill",
    "Station",
    "Martin Luther King",
    "Washington",
    "Church",
    "Elm",
    "Lakeview",
    "New",
    "Great Oaks",
    "5th",
    "St Mary's",
)
KINDS = (
    "Street",
    "St",
    "Avenue",
    "Ave",
    "Road",
    "Rd",
    "Lane",
    "Drive",
    "Boulevard",
    "Blvd",
    "Court",
    "Place",
    "Terrace",
)
TOWNS = (
    "Springfield, IL 62704",
    "Austin, TX 78701",
    "Portland, OR 97205-1234",
    "San Jose, CA 95112",
    "Albany, NY 12207",
    "New York, NY 10118",
    "Key West, FL 33040",
)
REGIONS = (
    "US",
    "CA",
    "GB",
    "DE",
    "FR",
    "ES",
    "IT",
    "NL",
    "BR",
    "MX",
    "IN",
    "CN",
    "JP",
    "KR",
    "AU",
    "ZA",
    "NG",
    "TR",
    "PL",
    "SE",
)


def digits(rng: random.Random, n: int) -> str:
    return "".join(rng.choices(string.digits, k=n))


def letters(rng: random.Random, n: int, alphabet: str = string.ascii_letters + string.digits) -> str:
    """At least one digit among them."""
    text = rng.choices(alphabet, k=n)
    text[rng.randrange(n)] = rng.choice([c for c in alphabet if c.isdigit()] or list(alphabet))
    return "".join(text)


def spaced(text: str, sizes: tuple[int, ...], gap: str) -> str:
    parts, at = [], 0
    for size in sizes:
        parts.append(text[at : at + size])
        at += size
    return gap.join(part for part in (*parts, text[at:]) if part)


def email(rng: random.Random) -> str:
    first, last = rng.choice(FIRST), rng.choice(LAST)
    local = rng.choice(
        (f"{first}.{last}", f"{first[0]}{last}{digits(rng, 2)}", f"{first}_{last}", f"{first}+shop", f"{last}-{first}")
    )
    address = f"{local}@{rng.choice(DOMAINS)}"
    return (
        rng.choice(
            (address, address, address.upper(), f"mailto:{address}", f"<{address}>", address.replace("@", "%40"))
        )
        if rng.random() < 0.3
        else address
    )


def phone(rng: random.Random) -> str:
    while True:
        kind = rng.choice((phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE))
        number = phonenumbers.example_number_for_type(rng.choice(REGIONS), kind)
        national = str(number.national_number)
        number.national_number = int(national[: len(national) - 5] + digits(rng, 5))
        if phonenumbers.is_valid_number(number):
            break
    styles = phonenumbers.PhoneNumberFormat
    if rng.random() < 0.65:
        return phonenumbers.format_number(number, rng.choice((styles.INTERNATIONAL, styles.INTERNATIONAL, styles.E164)))
    text = phonenumbers.format_number(number, styles.NATIONAL)
    lead = rng.choice(
        ("call me at", "my phone is", "Tel:", "WhatsApp", "mobile number", "phone:", "Fax", "you can reach me on")
    )
    if rng.random() < 0.3:
        text = "".join(filter(str.isdigit, text))
    return f"{lead} {text}"


def card(rng: random.Random) -> str:
    prefix, length = rng.choice(
        (
            ("4", 16),
            ("4", 16),
            (f"5{rng.randint(1, 5)}", 16),
            ("2221", 16),
            ("37", 15),
            ("34", 15),
            ("6011", 16),
            (rng.choice(("3528", "3566")), 16),
            ("36", 14),
        )
    )
    number = prefix + digits(rng, length - len(prefix) - 1)
    number += luhn.calc_check_digit(number)
    sizes = (4, 6, 5) if length == 15 else (4, 6, 4) if length == 14 else (4, 4, 4, 4)
    grouped = spaced(number, sizes, " ")
    return rng.choice((number, grouped, grouped, spaced(number, sizes, "-"))) + rng.choice(
        ("",) * 6 + (",12/27,123", ",5")
    )


def iban(rng: random.Random) -> str:
    country, size, lead = rng.choice(
        (
            ("DE", 18, ""),
            ("FR", 23, ""),
            ("ES", 20, ""),
            ("GB", 14, "NWBK"),
            ("NL", 10, "ABNA"),
            ("IT", 22, "X"),
            ("PL", 24, ""),
            ("CH", 17, ""),
            ("AT", 16, ""),
            ("SE", 20, ""),
            ("BE", 12, ""),
        )
    )
    account = lead + digits(rng, size)
    number = country + mod_97_10.calc_check_digits(account + country) + account
    return number if rng.random() < 0.4 else spaced(number, (4,) * 9, " ")


def ip(rng: random.Random) -> str:
    """Of the public ranges: the others name nobody."""
    while not ip_address(value := _any_ip(rng)).is_global:
        continue
    return value if ":" in value else rng.choice(("", "", "", "root@")) + value + rng.choice(("", "", ":8080", "/24"))


def _any_ip(rng: random.Random) -> str:
    if rng.random() < 0.7:
        first = rng.choice([n for n in range(1, 224) if n not in (127, 169)])
        return ".".join(map(str, (first, *(rng.randint(0, 255) for _ in range(3)))))
    groups = [f"{rng.randint(0x1000, 0xFFFF):x}" for _ in range(8)]
    groups[0] = rng.choice(("2001", "2a02", "2606", "2804"))
    return rng.choice(
        (":".join(groups), ":".join(groups[:4]) + "::" + groups[-1], groups[0] + ":" + groups[1] + "::" + groups[2])
    )


def national_id(rng: random.Random) -> str:
    return rng.choice(_IDS)(rng)


def _ssn(rng: random.Random) -> str:
    text = f"{rng.choice([n for n in range(1, 900) if n != 666]):03}-{rng.randint(1, 99):02}-{rng.randint(1, 9999):04}"
    return text if rng.random() < 0.7 else "SSN: " + text.replace("-", rng.choice(("", " ")))


def _nino(rng: random.Random) -> str:
    text = rng.choice(("AB", "CE", "JG", "PX", "SK")) + digits(rng, 6) + rng.choice("ABCD")
    return rng.choice((text, spaced(text, (2, 2, 2, 2), " ")))


def _cpf(rng: random.Random) -> str:
    text = digits(rng, 9)
    text += cpf._calc_check_digits(text)
    return rng.choice((cpf.format(text), "CPF " + text))


def _ric(rng: random.Random) -> str:
    text = (
        rng.choice(("110101", "310104", "440305"))
        + f"{rng.randint(1950, 2005)}{rng.randint(1, 12):02}{rng.randint(1, 28):02}"
        + digits(rng, 3)
    )
    return text + ric.calc_check_digit(text + "0")


def _aadhaar(rng: random.Random) -> str:
    while (text := str(rng.randint(2, 9)) + digits(rng, 10))[::-1] == text:
        continue
    text += verhoeff.calc_check_digit(text)
    return rng.choice((spaced(text, (4, 4, 4), " "), "Aadhaar number " + text))


def _idnr(rng: random.Random) -> str:
    while True:
        text = str(rng.randint(1, 9)) + digits(rng, 9)
        text += idnr.mod_11_10.calc_check_digit(text)
        if idnr.is_valid(text):
            return rng.choice((spaced(text, (2, 3, 3, 3), " "), "Steuer-ID: " + text))


def _nir(rng: random.Random) -> str:
    born = f"{rng.randint(30, 99)}{rng.randint(1, 12):02}"
    text = f"{rng.randint(1, 2)}{born}{rng.randint(1, 95):02}{digits(rng, 6)}"
    text += nir.calc_check_digits(text)
    return rng.choice((text, spaced(text, (1, 2, 2, 2, 3, 3, 2), " "))) if nir.is_valid(text) else _nir(rng)


def _dni(rng: random.Random) -> str:
    text = digits(rng, 8)
    return rng.choice((text + dni.calc_check_digit(text), f"{text}-{dni.calc_check_digit(text)}"))


def _nie(rng: random.Random) -> str:
    text = rng.choice("XYZ") + digits(rng, 7)
    return text + nie.calc_check_digit(text)


def _codice(rng: random.Random) -> str:
    text = (
        letters(rng, 6, "BCDFGHLMNPRSTV")
        + digits(rng, 2)
        + rng.choice("ABCDEHLMPRST")
        + f"{rng.randint(1, 28):02}"
        + rng.choice("ABCDEFGHIL")
        + digits(rng, 3)
    )
    text += codicefiscale.calc_check_digit(text)
    return text if codicefiscale.is_valid(text) else _codice(rng)


def _curp(rng: random.Random) -> str:
    date = f"{rng.randint(50, 99)}{rng.randint(1, 12):02}{rng.randint(1, 28):02}"
    text = (
        rng.choice(("BOXW", "GAMA", "PERL"))
        + date
        + rng.choice("HM")
        + rng.choice(("SP", "DF", "NL"))
        + letters(rng, 3, "BCDFGHJKLMNPQRST")
        + "0"
    )
    text += curp.calc_check_digit(text)
    return text if curp.is_valid(text) else _curp(rng)


def _sin(rng: random.Random) -> str:
    text = rng.choice("1234567") + digits(rng, 7)
    text += luhn.calc_check_digit(text)
    return rng.choice((spaced(text, (3, 3, 3), "-"), "SIN: " + spaced(text, (3, 3, 3), " ")))


_IDS: tuple[Make, ...] = (_ssn, _ssn, _nino, _cpf, _ric, _aadhaar, _idnr, _nir, _dni, _nie, _codice, _curp, _sin)


def address(rng: random.Random) -> str:
    house = rng.randint(1, 9999)
    name = rng.choice(LAST).capitalize()
    return rng.choice(
        (
            f"{house} {rng.choice(ROADS)} {rng.choice(KINDS)}",
            f"{house} {rng.choice(ROADS)} {rng.choice(KINDS)}, {rng.choice(TOWNS)}",
            f"{house} N {rng.choice(ROADS)} {rng.choice(KINDS)}, Apt {rng.randint(1, 99)}, {rng.choice(TOWNS)}",
            f"{name}straße {rng.randint(1, 200)}, {rng.randint(10000, 99999)} Berlin",
            f"{rng.randint(1, 200)} rue de la {name}, {rng.randint(10000, 95999)} Paris",
            f"Calle de {name} {rng.randint(1, 200)}",
            f"Via {name} {rng.randint(1, 200)}",
        )
    )


def api_key(rng: random.Random) -> str:
    word = string.ascii_letters + string.digits
    low = "0123456789abcdef"
    return rng.choice(
        (
            "sk-proj-" + letters(rng, 74, word + "_-"),
            "sk-" + letters(rng, 20) + "T3BlbkFJ" + letters(rng, 20),
            "sk-ant-api03-" + letters(rng, 93, word + "_-"),
            "ghp_" + letters(rng, 36),
            "github_pat_" + letters(rng, 22) + "_" + letters(rng, 59),
            "glpat-" + letters(rng, 20),
            "AKIA" + letters(rng, 16, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"),
            'aws_secret_access_key = "' + letters(rng, 40, word + "/+") + '"',
            "AIza" + letters(rng, 35, word + "_-"),
            "xoxb-" + digits(rng, 12) + "-" + digits(rng, 12) + "-" + letters(rng, 24),
            "sk_live_" + letters(rng, 24),
            "hf_" + letters(rng, 34),
            "npm_" + letters(rng, 36),
            "SG." + letters(rng, 22) + "." + letters(rng, 43),
            "dop_v1_" + letters(rng, 64, low),
            "gsk_" + letters(rng, 52),
            "r8_" + letters(rng, 37),
            "shpat_" + letters(rng, 32, low),
            "AC" + letters(rng, 32, low),
            digits(rng, 10) + ":AA" + letters(rng, 33),
            ".".join(("eyJ" + letters(rng, 33), "eyJ" + letters(rng, 60), letters(rng, 43))),
            "Authorization: Bearer " + letters(rng, 40),
            "api_key=" + letters(rng, 32),
            "https://hooks.slack.com/services/T" + letters(rng, 8) + "/B" + letters(rng, 8) + "/" + letters(rng, 24),
        )
    )


def private_key(rng: random.Random) -> str:
    kind = rng.choice(("RSA ", "", "EC ", "OPENSSH ", "ENCRYPTED "))
    body = base64.encodebytes(rng.randbytes(rng.choice((120, 300, 1200)))).decode()
    if rng.random() < 0.2:
        body = f"Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,{letters(rng, 32, '0123456789ABCDEF')}\n\n{body}"
    return f"-----BEGIN {kind}PRIVATE KEY-----\n{body}-----END {kind}PRIVATE KEY-----"


def password(rng: random.Random) -> str:
    secret = rng.choice(
        (
            letters(rng, 12),
            letters(rng, 9) + "!",
            f"P@ss.{letters(rng, 5)}",
            "Summer" + digits(rng, 4),
            rng.choice(LAST) + "#" + digits(rng, 3),
        )
    )
    scheme, port = rng.choice(
        (("postgres", 5432), ("mysql", 3306), ("mongodb+srv", 27017), ("https", 443), ("redis", 6379), ("amqp", 5672))
    )
    if rng.random() < 0.7:
        return f"{scheme}://{rng.choice(FIRST[:5])}:{secret}@db{digits(rng, 1)}.internal.example.com:{port}/app"
    frames = (
        "password: {}",
        "my password is {}",
        "pwd={}",
        'password = "{}"',
        "pass: {}",
        "curl -u bob:{} https://a.io",
    )
    return rng.choice((*frames, "the password for my account is {}")).format(secret)


PLANTED: dict[str, Make] = {
    "email": email,
    "phone": phone,
    "card": card,
    "iban": iban,
    "ip": ip,
    "national_id": national_id,
    "address": address,
    "api_key": api_key,
    "private_key": private_key,
    "password": password,
}
