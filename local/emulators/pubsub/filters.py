"""The filter language of Pub/Sub subscriptions: an expression over a message's attributes."""

import ast
import re
from collections.abc import Callable, Mapping

type Filter = Callable[[Mapping[str, str]], bool]

MAX_BYTES = 256  # https://cloud.google.com/pubsub/quotas
_TOKEN = re.compile(r'\s*("(?:[^"\\]|\\.)*"|!=|[=:.,()-]|[A-Za-z_0-9](?:[\w-]*\w)?)\s*')


def parse_filter(text: str) -> Filter:
    """Test of a message's attributes, in https://cloud.google.com/pubsub/docs/subscription-message-filter's language.

    Understands `attributes:key`, `attributes.key = "value"`, `!=` (true also where the key is missing),
    `hasPrefix(attributes.key, "value")`, NOT and its short form -, AND, OR and parentheses; AND and OR mix only
    with parentheses. The empty text lets everything through.

    Raises:
        ValueError: the text is no such expression, or is over 256 bytes.
    """
    if len(text.encode()) > MAX_BYTES:
        raise ValueError(f"is over {MAX_BYTES} bytes")
    if not text.strip():
        return lambda _: True
    parser = _Parser(_tokens(text))
    parsed = parser.expression()
    parser.expect("")
    return parsed


def _tokens(text: str) -> list[str]:
    tokens, position = [], 0
    while position < len(text):
        if not (match := _TOKEN.match(text, position)):
            raise ValueError(f"can't be read from {text[position:]!r} on")
        tokens.append(match[1])
        position = match.end()
    return tokens


class _Parser:
    """Recursive descent over the tokens; each method reads one rule of the grammar and returns its test."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = [*tokens, ""]

    def expression(self) -> Filter:
        tests, operator = [self._term()], self._tokens[0]
        while operator in {"AND", "OR"} and self._take(operator):
            tests.append(self._term())
        return (
            (lambda seen: all(test(seen) for test in tests))
            if operator == "AND"
            else (lambda seen: any(test(seen) for test in tests))
        )

    def _term(self) -> Filter:
        if self._take("NOT") or self._take("-"):
            negated = self._term()
            return lambda seen: not negated(seen)
        if self._take("("):
            inner = self.expression()
            self.expect(")")
            return inner
        return self._prefix() if self._take("hasPrefix") else self._comparison()

    def _prefix(self) -> Filter:
        self.expect("(", "attributes", ".")
        key = self._key()
        self.expect(",")
        prefix = self._string()
        self.expect(")")
        return lambda seen: seen.get(key, "").startswith(prefix) and key in seen

    def _comparison(self) -> Filter:
        self.expect("attributes")
        if self._take(":"):
            key = self._key()
            return lambda seen: key in seen
        self.expect(".")
        key = self._key()
        wanted = not self._take("!=")
        if wanted:
            self.expect("=")
        value = self._string()
        return lambda seen: (seen.get(key) == value) is wanted

    def _key(self) -> str:
        return self._string() if self._tokens[0].startswith('"') else self._next(r"[\w-]+")

    def _string(self) -> str:
        literal = self._next(r'".*"')
        try:
            return str(ast.literal_eval(literal))  # Pub/Sub's escapes (\", \\, \n, \x41, \u00e9, \101) are Python's
        except SyntaxError as error:
            raise ValueError(f"holds the malformed string {literal}") from error

    def _take(self, token: str) -> bool:
        if self._tokens[0] != token:
            return False
        self._tokens.pop(0)
        return True

    def expect(self, *tokens: str) -> None:
        for token in tokens:
            self._next(re.escape(token))

    def _next(self, pattern: str) -> str:
        if not re.fullmatch(pattern, self._tokens[0], re.DOTALL):
            raise ValueError(f"can't be read from {' '.join(self._tokens)!r} on")
        return self._tokens.pop(0) if self._tokens[0] else ""
