"""What looks like personal data and is none: versions, hashes, order numbers, dates, code. A row per sort."""

# ruff: noqa: E501 (a sort is one row of its table)

import random
import string
import uuid

from planted import Make, digits, letters
from stdnum import luhn


def _not_luhn(rng: random.Random) -> str:
    text = rng.choice("3456") + digits(rng, 15)
    return text if not luhn.is_valid(text) else _not_luhn(rng)


def _version(rng: random.Random) -> str:
    return rng.choice(
        (
            f"v{rng.randint(0, 9)}.{rng.randint(0, 30)}.{rng.randint(0, 30)}",
            f"Python 3.{rng.randint(6, 14)}.{rng.randint(0, 20)}",
            f"torch>={rng.randint(1, 2)}.{rng.randint(0, 9)}",
            f"{rng.randint(0, 9)}.{rng.randint(0, 30)}.{rng.randint(0, 30)}-rc{rng.randint(1, 9)}",
            f"node-v{rng.randint(10, 22)}.{rng.randint(0, 20)}.0",
        )
    )


# fmt: off
LOOK_ALIKES: dict[str, Make] = {
    "version": _version,
    "hash": lambda r: letters(r, r.choice((7, 32, 40, 64)), "0123456789abcdef"),
    "uuid": lambda r: str(uuid.UUID(int=r.getrandbits(128), version=4)),
    "order number": lambda r: r.choice(("Order #{}", "order no. {}", "Ticket {}", "invoice {}", "ref {}")).format(r.choice((digits(r, 8), digits(r, 10), digits(r, 12), f"{digits(r, 3)}-{digits(r, 7)}-{digits(r, 7)}", f"INV-{digits(r, 4)}-{digits(r, 4)}", f"PO{digits(r, 9)}"))) if r.random() < 0.8 else f"part number 800-{digits(r, 3)}-{digits(r, 4)}",
    "long number": _not_luhn,
    "date and time": lambda r: r.choice((f"20{r.randint(10, 26)}-{r.randint(1, 12):02}-{r.randint(1, 28):02}", f"{r.randint(1, 28):02}.{r.randint(1, 12):02}.20{r.randint(10, 26)}", f"{r.randint(1, 12)}/{r.randint(1, 28)}/20{r.randint(10, 26)}", f"{r.randint(0, 23):02}:{r.randint(0, 59):02}:{r.randint(0, 59):02}", f"2024-05-0{r.randint(1, 9)}T1{r.randint(0, 9)}:30:00Z", f"20{r.randint(10, 19)}-20{r.randint(20, 26)}")),
    "timestamp": lambda r: str(r.randint(1_500_000_000, 1_800_000_000) * r.choice((1, 1000, 10**6, 10**9)) + r.randint(0, 999)),
    "isbn and barcode": lambda r: r.choice((f"ISBN 978-{r.randint(0, 9)}-{digits(r, 2)}-{digits(r, 6)}-{digits(r, 1)}", "978" + digits(r, 10), f"ISBN {digits(r, 9)}X", "EAN 40" + digits(r, 11))),
    "number and price": lambda r: r.choice((f"{r.randint(1, 999)},{digits(r, 3)},{digits(r, 3)}", f"${r.randint(1, 99)},{digits(r, 3)}.{digits(r, 2)}", f"{r.random():.12f}", f"{r.uniform(-90, 90):.6f}, {r.uniform(-180, 180):.6f}", f"{r.randint(1, 9)} {digits(r, 3)} {digits(r, 3)}", f"{r.random():.8f}e-{r.randint(1, 9)}")),
    "arithmetic": lambda r: r.choice((f"x = {digits(r, 5)} + {digits(r, 6)} - {digits(r, 4)}", f"{digits(r, 4)} * {digits(r, 4)} = {digits(r, 8)}", f"[{', '.join(str(r.randint(0, 99)) for _ in range(9))}]", f"{digits(r, 3)} {digits(r, 2)} {digits(r, 4)} {digits(r, 3)}", f"2^{digits(r, 2)} = {digits(r, 16).lstrip('0')}", " ".join(str(r.randint(0, 9)) for _ in range(10)))),
    "at sign in code": lambda r: r.choice(("@app.route('/users')", "@property", f"react@{r.randint(1, 18)}.{r.randint(0, 9)}.0", f"icon@{r.randint(2, 3)}x.png", "git@github.com:org/repo.git", "root@localhost:~#", f"user@host{digits(r, 2)}", "a @ b.T", f"@user_{digits(r, 3)}", "foo@bar", "X @ W + b", "@media (min-width: 600px)")),
    "colon in code": lambda r: r.choice(("std::vector<int>", "a::b", "std::fs::File", f"{r.randint(1, 12)}:{digits(r, 2)}", f"aa:bb:cc:dd:ee:{digits(r, 2)}", "x[::2]", "x[1:10:2]", "Foo::Bar::baz", "http://localhost:8080", "{a: 1, b: 2}", "::before", "f::e", "2001:db8::8a2e:370:7334", f"fe80::1ff:fe23:{digits(r, 4)}:890a")),
    "dotted number": lambda r: r.choice(("127.0.0.1", "0.0.0.0", "255.255.255.0", f"v{r.randint(1, 9)}.{r.randint(0, 20)}.{r.randint(0, 20)}.{r.randint(0, 99)}", f"version {r.randint(1, 20)}.{r.randint(0, 9)}.{r.randint(0, 9)}.{r.randint(0, 250)}", f"Chrome/{r.randint(80, 130)}.0.{digits(r, 4)}.{digits(r, 2)}", f"1.3.6.1.4.1.{digits(r, 4)}", f"Section {r.randint(1, 9)}.{r.randint(1, 9)}.{r.randint(1, 9)}.{r.randint(1, 9)}", f"numpy=={r.randint(1, 2)}.{r.randint(0, 26)}.{r.randint(0, 9)}", "999.300.1.2", f"10.{r.randint(0, 255)}.{r.randint(0, 255)}.{r.randint(1, 254)}", f"192.168.{r.randint(0, 255)}.0/24", f"172.{r.randint(16, 31)}.0.{r.randint(1, 254)}", f"203.0.113.{r.randint(1, 254)}", "8.8.8.8", "OpenSSL 1.1.1.1", "file 1.2.3.4.tar.gz", f"dotnet 6.0.{r.randint(100, 255)}.1")),
    "key-like name": lambda r: r.choice(("scikit-learn", "sk-loading-indicator-container-wide", "api_key = os.environ['OPENAI_API_KEY']", "YOUR_API_KEY_HERE_PLEASE", "token = tokenizer.encode(text)", "<api_key>", "secret_key = get_secret_key_from_vault()", "hf_hub_download", "token: string; // the token", "sk-xxxxxxxxxxxxxxxxxxxxxxxx", "npm_config_registry", "AKIA", "keys: [primary_key, foreign_key_constraint]", "access_token=your_access_token_1234567")),
    "password-like code": lambda r: r.choice(("password = input('Password: ')", "password: string", "password = request.form['password1']", "the password is required", "if password == password2:", "password: ********", "postgres://user:password@localhost/db", "mysql://${USER}:${PASS}@host/db", "https://medium.com/@writer/story", "pwd = os.getcwd()", "password_hash VARCHAR(255)", "passwd: <your password>", "http://host:8080/a@b", f"password = hash_password{r.randint(2, 9)}(user_input1)", f"password: minLength{r.randint(6, 12)}", f"pwd=/home/user{r.randint(1, 9)}/dir2", f"password = form.password{r.randint(1, 9)}", f"docker run -u {r.randint(1000, 2000)}:1000 image")),
    "public key": lambda r: r.choice(("-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----", "-----BEGIN CERTIFICATE-----", "Put the PRIVATE KEY there", "-----BEGIN PRIVATE KEY----- goes first, then the body")),
    "street-like words": lambda r: r.choice((f"{r.randint(2, 20)} Best Ways to Drive Sales", f"Top {r.randint(2, 20)} Places", f"{r.randint(2, 9)} Way ANOVA", f"{r.randint(2, 50)} Court Cases", f"Wall Street fell {r.randint(2, 9)} percent", f"{r.randint(2, 9)} people on Main Street", f"place {r.randint(1, 9)}", f"Chapter {r.randint(1, 30)} The Road", f"via {r.randint(1, 9)} steps", f"{r.randint(1, 9)} Key Points to Drive Home", "Rue the day", f"{r.randint(100, 999)} Close Friends", f"In {r.randint(1990, 2024)} Wall Street collapsed", f"In {r.randint(2010, 2024)} Google Drive was down", f"HTML {r.randint(4, 5)} Canvas Circle", f"Figure {r.randint(1, 9)} Unit Circle", f"Via GitHub Actions {r.randint(2, 4)}", f"{r.randint(2, 9)} cours de Java", f"Arbeitsplatz {r.randint(1, 9)}", f"Lösungsweg {r.randint(1, 9)}", f"Speicherplatz {r.randint(1, 9)}00 GB", f"{r.randint(2, 9)} New Drive features")),
    "id-like code": lambda r: r.choice((f"SKU-{digits(r, 5)}-{digits(r, 3)}", f"1Z{letters(r, 16, string.ascii_uppercase + string.digits)}", f"RFC {digits(r, 4)}", f"{digits(r, 3)}-{digits(r, 3)}", f"AB{digits(r, 4)}CD", f"#{digits(r, 6)}", f"{digits(r, 2)}-{digits(r, 7)}", f"CVE-2024-{digits(r, 5)}", f"XYZ{digits(r, 5)}", f"{digits(r, 5)}-{digits(r, 4)}", f"DIN EN {digits(r, 5)}", f"GB{digits(r, 9)}")),
}
