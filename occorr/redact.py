"""Replaces secrets, cookies, query values and mail addresses by fingerprints: equal secrets keep equal fingerprints, and no secret can be had back."""

from __future__ import annotations

import hashlib
import hmac
import re
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    import polars as pl

# A quotation mark in any spelling: JSON within JSON, nginx's \x22, HTML, a URL, a word processor.
_QUOTE = r"(?:\\*[\"']|&(?:quot|#34|#39|apos);|\\+x2[27]|\\+u002[27]|%2[27]|[“”„‘’])"
_NAME = r"(?:token|secret|passw(?:or)?d|api[_-]?key|authorization|cookie|credential|private[_-]?key)"
_KEY = rf"[\w.-]{{0,60}}{_NAME}[\w.-]{{0,60}}"
_WORD = r"(?:access[_-]?|auth[_-]?|refresh[_-]?|gateway[_-]?|bot[_-]?|client[_-]?)?(?:token|secret|passw(?:or)?d|api[_-]?key|credentials?)"
_FIELDS = "token secret passw api authorization cookie credential private"
# Each pattern's group `secret` is what must go; before it, one of the words that a text must hold for it to be tried (the
# patterns cost much, words little). The names are the fields' own, not the lab's.
_NAMED: Final = (
    (
        _FIELDS,
        rf"(?<![\w.-]){_KEY}(?:{_QUOTE})?\s*(?:[:=]|=>|%3a|%3d)\s*\[?\s*(?P<quote>{_QUOTE})(?P<secret>.{{3,}}?)(?=(?P=quote)|{_QUOTE}\s*[,}}\]]|$)",
    ),
    ("secret passw", rf"{_QUOTE}[\w.-]*(?:secret|passw(?:or)?d)[\w.-]*{_QUOTE}\s*:\s*(?P<secret>\d{{4,}})"),
    ("bearer", r"\bbearer(?:\s|%20|\+)+(?P<secret>[A-Za-z0-9._~+/=-]{6,})"),
    ("digest", r"\bdigest\s+(?P<secret>username=.*)"),
    (
        "authorization",
        r"\bauthorization(?::|%3a)(?:\s|%20)*(?:(?:bearer|basic|token)(?:\s|%20)+)?(?P<secret>[^\s\"',]{3,})",
    ),
    (_FIELDS, rf"[?&#;]{_KEY}=(?P<secret>[^&\s\"'<>;]{{3,}})"),
    (_FIELDS, rf"(?<![\w.-]){_WORD}(?:=|%3d)[\"']?(?P<secret>[^\s\"'&,;)%]{{3,}})"),
    ("</", rf"<{_WORD}>(?P<secret>[^<]{{3,}})</"),
    ("--", r"--(?:token|password|api-key|secret)[\"']?(?:=|\s*,\s*|\s+)[\"']?(?P<secret>[^\s'\"]{3,})"),
    ("-u --user", r"(?<!\S)(?:-u|--user)[= ]?[\"']?(?!\d+:\d+\b)[^\s:\"']+:(?P<secret>[^\s\"']{3,})"),
    ("cookie:", r"(?:^|[\s\"'])(?:set-)?cookie:\s*(?P<secret>[^\"'\r\n]+)"),
    (
        "x- api auth access",
        r"\b(?:x-[\w-]*(?:token|key|secret)|(?:api[_-]key|auth[_-]token|access[_-]token))\s*:\s*(?P<secret>[^\s\"',]{3,})",
    ),
    ("token. bearer.", r"\b(?:token|bearer)\.(?P<secret>(?=[\w~+/=-]*\d)[\w~+/=-]{12,})"),  # a WebSocket's subprotocol
    ("sec-websocket-protocol", r"\bsec-websocket-protocol\W+[\w-]*token,\s*(?P<secret>[\w.~+/=-]{8,})"),
    (_FIELDS, rf"\b{_WORD}\s+(?:is|was)\s+(?P<secret>(?=\S*\d)[\w./+=-]{{12,}})"),
)
# Those that their form gives away, wherever they stand.
_FORMED: Final = (
    ("basic", r"(?i:\bbasic\s+)(?P<secret>(?=[A-Za-z0-9+/]*[A-Z0-9+/=])[A-Za-z0-9+/]{8,}={0,2})(?![\w])"),
    (
        _FIELDS,
        r"\b[A-Z][A-Z0-9_]*(?:TOKEN|SECRET|PASSWORD|API_KEY|CREDENTIALS?)\s*[=:]\s*[\"']?(?P<secret>[^\s\"',]{3,})",
    ),
    ("aws_secret", r"(?i:\baws_secret_access_key\s*[=:]\s*)(?P<secret>\S{16,})"),
    ("sk rk gh xox glpat", r"\b(?P<secret>(?:sk|rk|gh[oprsu]|xox[a-z]|glpat)[-_][A-Za-z0-9_-]{10,})"),
    (
        "github_pat npm_ hf_ xapp- tskey-",
        r"\b(?P<secret>github_pat_\w{20,}|(?:npm|hf)_[A-Za-z0-9]{24,}|xapp-\d-[\w-]{20,}|tskey-[a-z]+-[\w-]{12,})",
    ),
    ("akia asia aiza ya29.", r"\b(?P<secret>(?:AKIA|ASIA)[A-Z0-9]{16}|AIza[\w-]{30,}|ya29\.[\w-]{20,})"),
    (":", r"(?<![\d.:])(?:bot)?(?P<secret>\d{8,10}:[A-Za-z0-9_-]{33,})(?![\w-])"),  # Telegram
    (".", r"\b(?P<secret>[MNO][\w-]{23,27}\.[\w-]{6}\.[\w-]{27,})"),  # Discord
    ("/webhooks/ hooks.slack", r"(?:/webhooks/\d+/|hooks\.slack\.com/services/)(?P<secret>[\w/-]{20,})"),
    ("eyj", r"\b(?P<secret>eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*)"),
    ("@", r"(?<=//)[^/\s:@]*:(?P<secret>[^/\s@]+)@"),
    ("private", r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?P<secret>.+?)(?:-----END|$)"),
)
# A line of a key's body; an id or digest is all hexadecimal.
_BODY: Final = r"(?:^|[\s\"'])[A-Za-z0-9+/]{60,128}={0,2}\s*$"
_KEY_BODY: Final = re.compile(
    r"(?:^|[\s\"'])(?P<secret>(?![0-9a-f]+(?:\s|$))(?=\S{0,128}[A-Z])(?=\S{0,128}[a-z])(?=\S{0,128}\d)"
    r"[A-Za-z0-9+/]{60,128}={0,2})\s*$"
)
_PATTERNS: Final = (
    *((tuple(words.split()), re.compile(pattern, re.IGNORECASE)) for words, pattern in _NAMED),
    *((tuple(words.split()), re.compile(pattern)) for words, pattern in _FORMED),
)
# A query string may hold anything that an application passes: names stay, values go. `\u0026` is an ampersand in JSON.
_QUERY: Final = re.compile(r"(?<=[\w/)~%.:-])\?(?P<query>[\w.~%+\[\]-]+=(?:[^\s\"'<>\\|`]|\\u0026)*)")
_PARTED: Final = re.compile(r"(&amp;|&|;|\\u0026)")
# Not a mail: units of systemd (name@instance.service), the user of a URL, a digest or version behind an @.
_MAIL: Final = re.compile(
    r"(?<!fp:)(?<![\w.+%/-])[A-Za-z0-9_][\w.+%-]*@(?:[A-Za-z0-9-]+\.)+(?!(?:service|socket|timer|mount|target|slice|scope|path|device|js|mjs|ts)\b)[A-Za-z]{2,24}(?![\w-])"
)
# Headers and options that no word of theirs gives away: `x-goog-iam-key: …`, `curl -uadmin:…`.
_WORDLESS: Final = r"(?i:\bx-[\w-]*key\s*:)|(?:^|\s)(?:-u|--user)[= ]?[\"']?[^\s:\"']+:"
# What a line must hold to be looked at singly; polars' engine runs this over all kept lines.
_HINT: Final = (
    r"(?i:bearer|basic |digest |token|secret|passw|api[_-]?key|authorization|cookie|credential|private[_ -]?key)|\beyJ"
    r"|\b(?:sk|rk|gh[oprsu]|xox[a-z]|glpat|npm|hf|xapp-|tskey)[-_]?[A-Za-z0-9]|\b(?:github_pat_|AKIA|ASIA|AIza|ya29\.)"
    r"|//[^/\s:@]*:[^/\s@]+@|[\w/)~%.:-]\?[\w.~%+\[\]-]+=|\w@[\w-]+\.|/webhooks/|hooks\.slack|" + _WORDLESS + "|"
    r"\d{8,10}:[A-Za-z0-9_-]{33}|\b[MNO][\w-]{23,27}\.[\w-]{6}\.|" + _BODY
)
# The same in plain words and one short pattern, for one line at a time.
_WORDS: Final = (
    "bearer",
    "basic",
    "digest",
    "token",
    "secret",
    "passw",
    "api_key",
    "api-key",
    "apikey",
    "authorization",
    "cookie",
    "credential",
    "private",
    "eyj",
    "sk-",
    "sk_",
    "rk-",
    "rk_",
    "gho",
    "ghp",
    "ghr",
    "ghs",
    "ghu",
    "xox",
    "glpat",
    "npm_",
    "hf_",
    "xapp-",
    "tskey",
    "github_pat",
    "akia",
    "asia",
    "aiza",
    "ya29.",
    "/webhooks/",
    "hooks.slack",
    "-u ",
    "--user",
)
_FORMS: Final = re.compile(
    r"\?[\w.~%+\[\]-]+=|\d{8,10}:[A-Za-z0-9_-]{33}|\b[MNO][\w-]{23,27}\.[\w-]{6}\.|" + _WORDLESS + "|" + _BODY
)
_FINGERPRINT: Final = re.compile(r"fp:[0-9a-f]{8}")
SHORTEST: Final = 6  # of the texts that are replaced wherever they stand
LONGEST_WORD: Final = 12  # one of letters only could be a word that the logs need
_HARMLESS: Final = re.compile(
    r"^(?:\*+|<[\w ]+>|\[redacted[^\]]*\]|true|false|null|none|device-token|token|none|yes|no|fp:[0-9a-f]+|REDACTED)$",
    re.IGNORECASE,
)


class Redactor:
    """Fingerprints secrets with an HMAC; the key decides between which runs fingerprints compare.

    Args:
        key: HMAC key. With the digest of all inputs as key, fingerprints compare inside one result only.
        enabled: False passes every text through.
    """

    __slots__ = ("_learning", "enabled", "key", "known")

    def __init__(self, key: bytes, *, enabled: bool = True) -> None:
        self.key = key
        self.enabled = enabled
        self.known: tuple[str, ...] = ()
        self._learning = threading.Lock()

    def fingerprint(self, secret: str) -> str:
        """`fp:` and eight hex digits, the same for the same secret under one key; a fingerprint stays what it is."""
        if _FINGERPRINT.fullmatch(secret):
            return secret
        return "fp:" + hmac.new(self.key, secret.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:8]

    def learn(self, secrets: Iterable[str]) -> None:
        """From now on these very texts are replaced wherever they stand, whatever stands around them.

        Texts too short to be told from words are left to the patterns.
        """
        fresh = {
            s
            for s in secrets
            if len(s) >= SHORTEST and not _HARMLESS.match(s) and not (s.isalpha() and len(s) < LONGEST_WORD)
        }
        with self._learning:
            if not fresh <= set(self.known):
                self.known = tuple(
                    sorted({*self.known, *fresh}, key=lambda s: (-len(s), s))
                )  # the longest first: one may hold another

    def line(self, text: str) -> str:
        """`text` for one of very many lines: those without a hint of a secret cost next to nothing."""
        low = text.lower()
        known = any(w in low for w in _WORDS) or any(s in text for s in self.known)
        if known or ("://" in text and "@" in text) or _FORMS.search(text):
            return self.text(text)
        return text

    def text(self, text: str) -> str:
        """The text with each secret replaced."""
        if not self.enabled:
            return text
        for secret in self.known:
            if secret in text:
                text = text.replace(secret, self.fingerprint(secret))
        low = text.lower()
        for words, pattern in _PATTERNS:
            if any(w in low for w in words):
                text = pattern.sub(self._replace, text)
        text = _KEY_BODY.sub(self._replace, text)
        return _MAIL.sub(lambda m: self.fingerprint(m[0]), _QUERY.sub(self._query, text))

    def _query(self, found: re.Match[str]) -> str:
        """A query string with a fingerprint in place of each value that is none yet."""
        told = []
        for part in _PARTED.split(found["query"]):
            name, equals, value = part.partition("=")
            told.append(
                f"{name}={self.fingerprint(value)}" if equals and value and not _HARMLESS.match(value) else part
            )
        return "?" + "".join(told)

    def _replace(self, found: re.Match[str]) -> str:
        secret = found["secret"]
        if _HARMLESS.match(secret):
            return found[0]
        start, end = found.start("secret") - found.start(), found.end("secret") - found.start()
        return found[0][:start] + self.fingerprint(secret) + found[0][end:]

    def hints(self, texts: pl.Series) -> pl.Series:
        """The places of texts that hold a hint of a secret; only those are looked at singly."""
        import polars as pl  # noqa: PLC0415 - whoever redacts single lines, as a recorder does, need not wait for it

        if not self.enabled:
            return pl.Series([], dtype=pl.UInt32)
        hit = texts.str.contains(_HINT)
        if self.known:
            hit = hit | texts.str.contains_any(list(self.known))
        return hit.fill_null(value=False).arg_true()

    def column(self, texts: pl.Series, places: pl.Series | None = None) -> pl.Series:
        """A column of texts with secrets replaced, at the given places or wherever there is a hint."""
        where = self.hints(texts) if places is None else places
        if where.is_empty():
            return texts
        return texts.clone().scatter(where, [self.text(t) if t is not None else None for t in texts.gather(where)])
