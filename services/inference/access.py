"""Who may call, and how often. On Cloud Run IAM has checked the caller before; elsewhere a JWT may be asked for."""

import asyncio
from collections import OrderedDict
from functools import cached_property
from math import ceil
from time import monotonic
from typing import TYPE_CHECKING

from services.inference.problems import Problem

if TYPE_CHECKING:
    from jwt import PyJWKClient

_ALGORITHMS = ["RS256", "ES256"]
_JWKS_SECONDS = 300
_CALLERS = 10_000


class Tokens:
    """Checks the signature, issuer, audience and expiry of bearer tokens against the issuer's published keys."""

    def __init__(self, *, issuer: str, audience: str, jwks_url: str) -> None:
        self._issuer, self._audience, self._jwks_url = issuer, audience, jwks_url

    async def subject(self, authorization: str) -> str:
        """Whom the token names. Raises Problem (401)."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise _unauthorised("Send the header `Authorization: Bearer <token>`.")
        return await asyncio.to_thread(self._verified, token)  # the keys may have to be fetched

    def _verified(self, token: str) -> str:
        import jwt  # noqa: PLC0415 - cryptography is loaded only where tokens are asked for

        try:
            key = self._keys.get_signing_key_from_jwt(token)
            claims = jwt.decode(
                token,
                key,
                algorithms=_ALGORITHMS,
                issuer=self._issuer,
                audience=self._audience,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.PyJWKClientConnectionError:
            raise Problem(503, "keys-unavailable", "The issuer's keys cannot be read. Try again.", 5) from None
        except jwt.PyJWTError:
            raise _unauthorised("The token is not valid here, or no longer. Sign in again.") from None
        return claims["sub"]

    @cached_property
    def _keys(self) -> "PyJWKClient":
        import jwt  # noqa: PLC0415 - as above

        return jwt.PyJWKClient(self._jwks_url, lifespan=_JWKS_SECONDS, timeout=5)


class Rates:
    """A bucket of tokens for each caller that called last; a request takes one."""

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str) -> None:
        """Raises Problem (429) where the caller's bucket is empty."""
        burst = max(2 * self._per_second, 1)
        now = monotonic()
        tokens, since = self._buckets.pop(caller, (burst, now))
        tokens = min(tokens + (now - since) * self._per_second, burst)
        self._buckets[caller] = (max(tokens - 1, 0) if tokens >= 1 else tokens, now)
        if len(self._buckets) > _CALLERS:
            self._buckets.popitem(last=False)
        if tokens < 1:
            seconds = ceil((1 - tokens) / self._per_second)
            raise Problem(429, "too-many-requests", "You sent too many requests. Wait a little.", seconds)


def _unauthorised(detail: str) -> Problem:
    return Problem(401, "unauthorised", detail)
