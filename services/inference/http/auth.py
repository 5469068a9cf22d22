"""Who may call. On Cloud Run IAM has checked the caller before; elsewhere a JWT may be asked for."""

import asyncio
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jwt import PyJWKClient

_ALGORITHMS = ["RS256", "ES256"]
_JWKS_SECONDS = 300


class Unauthorised(Exception):
    """The request has no token, or none that is valid here and now."""


class KeysUnavailable(Exception):
    """The issuer's keys cannot be read."""


class TokenVerifier:
    """Checks the signature, issuer, audience and expiry of bearer tokens against the issuer's published keys."""

    def __init__(self, *, issuer: str, audience: str, jwks_url: str) -> None:
        """`jwks_url`: where the issuer publishes its keys as a JSON Web Key Set (RFC 7517)."""
        self._issuer, self._audience, self._jwks_url = issuer, audience, jwks_url

    async def verify(self, authorization: str) -> None:
        """Check the value of an Authorization header. Raises Unauthorised, KeysUnavailable."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthorised
        await asyncio.to_thread(self._verify, token)  # the keys may have to be fetched

    def _verify(self, token: str) -> None:
        import jwt  # noqa: PLC0415 - cryptography is loaded only if tokens are asked for

        try:
            jwt.decode(
                token,
                self._keys.get_signing_key_from_jwt(token),
                algorithms=_ALGORITHMS,
                issuer=self._issuer,
                audience=self._audience,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.PyJWKClientConnectionError:
            raise KeysUnavailable from None
        except jwt.PyJWTError:
            raise Unauthorised from None

    @cached_property
    def _keys(self) -> "PyJWKClient":
        import jwt  # noqa: PLC0415 - as above

        return jwt.PyJWKClient(self._jwks_url, lifespan=_JWKS_SECONDS, timeout=5)
