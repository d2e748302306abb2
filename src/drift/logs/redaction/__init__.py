"""Replace personal data in texts before anything is written: e-mail, phone, cards, ids, addresses, keys, passwords.

One file per family of patterns. Each detector has a gate: an RE2 pattern that every text with a finding matches, so
that texts without candidates are skipped at the speed of one scan.
"""

from drift.logs.redaction.finder import find
from drift.logs.redaction.redact import Redactor, make_redactor, redact_text

__all__ = ["Redactor", "find", "make_redactor", "redact_text"]
