"""Replaces secrets, cookies, query values and mail addresses by fingerprints: equal secrets keep equal fingerprints, and no secret can be had back."""

from __future__ import annotations

import hashlib
import hmac
import re
import threading
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    import polars as pl

# A quotation mark in any spelling: JSON within JSON, nginx's \x22, HTML, a URL, a word processor.
_QUOTE = r"(?:\\*[\"']|&(?:quot|#34|#39|apos);|\\+x2[27]|\\+u002[27]|%2[27]|[“”„‘’])"
_NAME = r"(?:token|secret|passw(?:or)?d|api[_-]?key|authorization|cookie|credential|private[_-]?key)"
_KEY = rf"[\w.-]{{0,60}}{_NAME}[\w.-]{{0,60}}"
_WORD = r"(?:access[_-]?|auth[_-]?|refresh[_-]?|gateway[_-]?|bot[_-]?|client[_-]?)?(?:token|secret|passw(?:or)?d|api[_-]?key|credentials?)"
_FIELDS = "token secret passw api_key api-key apikey authorization cookie credential private_key private-key privatekey"


class _Shape(NamedTuple):
    """One way in which a secret stands in a text; the pattern's group `secret` is what must go.

    A text is tried (patterns cost much, words little) where it holds one of `words`, in lower case. Where many texts do,
    `form` says the same more narrowly, for both engines: of a column only texts with such a form are looked at.
    """

    words: tuple[str, ...]
    pattern: re.Pattern[str]
    form: str = ""


def _named(words: str, pattern: str, form: str = "") -> _Shape:
    """A shape that a name gives away, in any case of letters."""
    return _Shape(tuple(words.split()), re.compile(pattern, re.IGNORECASE), form and f"(?i:{form})")


def _formed(words: str, pattern: str, form: str = "") -> _Shape:
    """A shape that its own form gives away, wherever it stands."""
    return _Shape(tuple(words.split()), re.compile(pattern), form)


# The names are the fields' own, not the lab's.
_SHAPES: Final = (
    _named(
        _FIELDS,
        rf"(?<![\w.-]){_KEY}(?:{_QUOTE})?\s*(?:[:=]|=>|%3a|%3d)\s*\[?\s*(?P<quote>{_QUOTE})(?P<secret>.{{3,}}?)(?=(?P=quote)|{_QUOTE}\s*[,}}\]]|$)",
    ),
    _named("secret passw", rf"{_QUOTE}[\w.-]*(?:secret|passw(?:or)?d)[\w.-]*{_QUOTE}\s*:\s*(?P<secret>\d{{4,}})"),
    _named("bearer", r"\bbearer(?:\s|%20|\+)+(?P<secret>[A-Za-z0-9._~+/=-]{6,})"),
    _named("username=", r"\bdigest\s+(?P<secret>username=.*)"),
    _named(
        "authorization",
        r"\bauthorization(?::|%3a)(?:\s|%20)*(?:(?:bearer|basic|token)(?:\s|%20)+)?(?P<secret>[^\s\"',]{3,})",
    ),
    _named(_FIELDS, rf"[?&#;]{_KEY}=(?P<secret>[^&\s\"'<>;]{{3,}})"),
    _named(_FIELDS, rf"(?<![\w.-]){_WORD}(?:=|%3d)[\"']?(?P<secret>[^\s\"'&,;)%]{{3,}})"),
    _named(_FIELDS, rf"<{_WORD}>(?P<secret>[^<]{{3,}})</"),
    _named(
        "--token --password --api-key --secret",
        r"--(?:token|password|api-key|secret)[\"']?(?:=|\s*,\s*|\s+)[\"']?(?P<secret>[^\s'\"]{3,})",
    ),
    _named(
        "-u --user",
        r"(?<!\S)(?:-u|--user)[= ]?[\"']?(?!\d+:\d+\b)[^\s:\"']+:(?P<secret>[^\s\"']{3,})",
        r"(?:^|\s)(?:-u|--user)[= ]?[\"']?[^\s:\"']+:",
    ),
    _named("cookie:", r"(?:^|[\s\"'])(?:set-)?cookie:\s*(?P<secret>[^\"'\r\n]+)"),
    _named("api_key api-key token", r"\b(?:api[_-]key|auth[_-]token|access[_-]token)\s*:\s*(?P<secret>[^\s\"',]{3,})"),
    _named(
        "x-", r"\bx-[\w-]*(?:token|key|secret)\s*:\s*(?P<secret>[^\s\"',]{3,})", r"\bx-[\w-]*(?:token|key|secret)\s*:"
    ),
    _named(
        "token. bearer.", r"\b(?:token|bearer)\.(?P<secret>(?=[\w~+/=-]*\d)[\w~+/=-]{12,})"
    ),  # a WebSocket's subprotocol
    _named("token,", r"\bsec-websocket-protocol\W+[\w-]*token,\s*(?P<secret>[\w.~+/=-]{8,})"),
    _named(_FIELDS, rf"\b{_WORD}\s+(?:is|was)\s+(?P<secret>(?=\S*\d)[\w./+=-]{{12,}})"),
    _formed("basic", r"(?i:\bbasic\s+)(?P<secret>(?=[A-Za-z0-9+/]*[A-Z0-9+/=])[A-Za-z0-9+/]{8,}={0,2})(?![\w])"),
    _formed(
        _FIELDS,
        r"\b[A-Z][A-Z0-9_]*(?:TOKEN|SECRET|PASSWORD|API_KEY|CREDENTIALS?)\s*[=:]\s*[\"']?(?P<secret>[^\s\"',]{3,})",
    ),
    _formed("aws_secret", r"(?i:\baws_secret_access_key\s*[=:]\s*)(?P<secret>\S{16,})"),
    _formed(
        "sk- sk_ rk- rk_ gho- gho_ ghp- ghp_ ghr- ghr_ ghs- ghs_ ghu- ghu_ xox glpat",
        r"\b(?P<secret>(?:sk|rk|gh[oprsu]|xox[a-z]|glpat)[-_][A-Za-z0-9_-]{10,})",
        r"\b(?:sk|rk|gh[oprsu]|xox[a-z]|glpat)[-_][A-Za-z0-9_-]{10}",
    ),
    _formed(
        "github_pat npm_ hf_ xapp- tskey-",
        r"\b(?P<secret>github_pat_\w{20,}|(?:npm|hf)_[A-Za-z0-9]{24,}|xapp-\d-[\w-]{20,}|tskey-[a-z]+-[\w-]{12,})",
    ),
    _formed("akia asia aiza ya29.", r"\b(?P<secret>(?:AKIA|ASIA)[A-Z0-9]{16}|AIza[\w-]{30,}|ya29\.[\w-]{20,})"),
    # Telegram
    _formed(":", r"(?<![\d.:])(?:bot)?(?P<secret>\d{8,10}:[A-Za-z0-9_-]{33,})(?![\w-])", r"\d{8,10}:[A-Za-z0-9_-]{33}"),
    # Discord
    _formed(".", r"\b(?P<secret>[MNO][\w-]{23,27}\.[\w-]{6}\.[\w-]{27,})", r"\b[MNO][\w-]{23,27}\.[\w-]{6}\."),
    _formed("/webhooks/ hooks.slack", r"(?:/webhooks/\d+/|hooks\.slack\.com/services/)(?P<secret>[\w/-]{20,})"),
    _formed("eyj", r"\b(?P<secret>eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*)"),
    _formed("@", r"(?<=//)[^/\s:@]*:(?P<secret>[^/\s@]+)@", r"//[^/\s:@]*:[^/\s@]+@"),
    _formed("-----begin", r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?P<secret>.+?)(?:-----END|$)"),
)
# A line of a key's body; an id or digest is all hexadecimal.
BODY: Final = 60  # characters without a blank, at the end of the line
_KEY_BODY: Final = re.compile(
    r"(?:^|[\s\"'])(?P<secret>(?![0-9a-f]+(?:\s|$))(?=\S{0,128}[A-Z])(?=\S{0,128}[a-z])(?=\S{0,128}\d)"
    rf"[A-Za-z0-9+/]{{{BODY},128}}={{0,2}})\s*$"
)
# A query string may hold anything that an application passes: names stay, values go. `\u0026` is an ampersand in JSON.
_QUERY: Final = re.compile(r"(?<=[\w/)~%.:-])\?(?P<query>[\w.~%+\[\]-]+=(?:[^\s\"'<>\\|`]|\\u0026)*)")
_PARTED: Final = re.compile(r"(&amp;|&|;|\\u0026)")
# Not a mail: units of systemd (name@instance.service), the user of a URL, a digest or version behind an @.
_MAIL: Final = re.compile(
    r"(?<!fp:)(?<![\w.+%/-])[A-Za-z0-9_][\w.+%-]*@(?:[A-Za-z0-9-]+\.)+(?!(?:service|socket|timer|mount|target|slice|scope|path|device|js|mjs|ts)\b)[A-Za-z]{2,24}(?![\w-])"
)
_HELD: Final = tuple(sorted({word for shape in _SHAPES for word in shape.words}))
# What polars' engine looks for in a column: words, and the forms of the shapes whose words many texts hold.
_WORDS: Final = tuple(sorted({word for shape in _SHAPES if not shape.form for word in shape.words}))
_FORMS: Final = "|".join(
    [
        *(shape.form for shape in _SHAPES if shape.form),
        r"[\w/)~%.:-]\?[\w.~%+\[\]-]+=",
        r"\w@[\w-]+\.",
        rf"(?:^|[\s\"'])[A-Za-z0-9+/]{{{BODY},128}}={{0,2}}\s*$",
    ]
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

    def text(self, text: str) -> str:
        """The text with each secret replaced; one without a word that could belong to a secret costs next to nothing."""
        if not self.enabled:
            return text
        for secret in self.known:
            if secret in text:
                text = text.replace(secret, self.fingerprint(secret))
        low = text.lower()
        if held := {word for word in _HELD if word in low}:
            for words, pattern, _ in _SHAPES:
                if not held.isdisjoint(words):
                    text = pattern.sub(self._replace, text)
        if len(text) >= BODY and " " not in text.rstrip()[-BODY:]:
            text = _KEY_BODY.sub(self._replace, text)
        if "?" in text:
            text = _QUERY.sub(self._query, text)
        if "@" in text:
            text = _MAIL.sub(lambda m: self.fingerprint(m[0]), text)
        return text

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
        hit = texts.str.contains_any(list(_WORDS), ascii_case_insensitive=True) | texts.str.contains(_FORMS)
        if self.known:
            hit = hit | texts.str.contains_any(list(self.known))
        return hit.fill_null(value=False).arg_true()

    def column(self, texts: pl.Series, places: pl.Series | None = None) -> pl.Series:
        """A column of texts with secrets replaced, at the given places or wherever there is a hint."""
        where = self.hints(texts) if places is None else places
        if where.is_empty():
            return texts
        return texts.clone().scatter(where, [self.text(t) if t is not None else None for t in texts.gather(where)])
