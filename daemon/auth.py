"""Bearer tokens: JWTs of one pinned algorithm with the claims `sub iat exp jti scope`.

`issue` and `verify` know nothing of the catalogue: whether the subject exists, is banned, or had
its tokens revoked is asked by `is_revoked` and by who verifies.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from daemon.config import Config, Limits
from daemon.errors import ConfigError, TokenError, TokenExpired
from daemon.keyfiles import read_token_secret
from daemon.model import User

LEEWAY_SECONDS = 30


class Scope(StrEnum):
    """What a token allows. `ADMIN` implies all and sees every user's objects."""

    READ = "read"
    CONTAINERS = "containers"
    SNAPSHOTS = "snapshots"
    PROJECTS = "projects"
    PROXY = "proxy"
    KEYS = "keys"
    ADMIN = "admin"


USER_SCOPES = frozenset(Scope) - {Scope.ADMIN}


@dataclass(frozen=True, slots=True)
class TokenKeys:
    """How tokens are checked. `key` is the shared secret of HS256, else a public key as PEM;
    an empty `audience` asks for none."""

    algorithm: str
    key: bytes = field(repr=False)
    audience: str = ""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a valid token says. Unknown scopes are left out."""

    user_id: str
    scopes: frozenset[Scope]
    issued_at: datetime | None
    expires_at: datetime

    def may(self, scope: Scope) -> bool:
        """Whether the token allows what needs this scope."""
        return scope in self.scopes or Scope.ADMIN in self.scopes


def load_keys(config: Config) -> TokenKeys:
    """The keys that the config names. Raises ConfigError."""
    auth = config.auth
    if auth.algorithm == "HS256":
        return TokenKeys(auth.algorithm, read_token_secret(config), auth.audience)
    try:
        with open(auth.public_key_file, "rb") as file:
            pem = file.read(Limits.secret_bytes_max)
        verifier = jwt.get_algorithm_by_name(auth.algorithm)
        verifier.prepare_key(load_pem_public_key(pem))
    except OSError as error:
        raise ConfigError(f"auth.public_key_file: cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, UnsupportedAlgorithm, jwt.InvalidKeyError):
        reason = f"holds no PEM public key for {auth.algorithm}"
        raise ConfigError(f"auth.public_key_file: {reason}") from None
    return TokenKeys(auth.algorithm, pem, auth.audience)


def issue(
    keys: TokenKeys, user_id: str, scopes: Iterable[Scope], *, ttl_seconds: int, at: datetime
) -> str:
    """A new token, valid from `at` on.

    `iat` keeps milliseconds, so that a token issued right after a revocation is valid. Raises
    ConfigError where this server only verifies.
    """
    if keys.algorithm != "HS256":
        raise ConfigError("auth.algorithm: tokens are issued where the private key is, not here")
    claims: dict[str, object] = {
        "sub": user_id,
        "iat": at.timestamp(),
        "exp": int(at.timestamp()) + ttl_seconds,
        "jti": secrets.token_hex(12),
        "scope": " ".join(sorted(scopes)),
    }
    if keys.audience:
        claims["aud"] = keys.audience
    return jwt.encode(claims, keys.key, algorithm=keys.algorithm)


def verify(keys: TokenKeys, token: str) -> Claims:
    """What the token says. Raises TokenExpired past `exp` and the leeway, TokenError for any
    other fault."""
    try:
        claims = jwt.decode(
            token,
            keys.key,
            algorithms=[keys.algorithm],
            audience=keys.audience or None,
            leeway=LEEWAY_SECONDS,
            options={"require": ["exp", "sub"], "verify_aud": bool(keys.audience)},
        )
        issued = claims.get("iat")
        at = None if issued is None else datetime.fromtimestamp(float(issued), UTC)
        end = datetime.fromtimestamp(float(claims["exp"]), UTC)
    except jwt.ExpiredSignatureError:
        raise TokenExpired("the token has expired") from None
    except (jwt.InvalidTokenError, ValueError, TypeError, OverflowError, OSError) as error:
        raise TokenError(f"the token is invalid: {error}") from None
    granted = claims.get("scope")
    words = granted.split() if isinstance(granted, str) else []
    return Claims(claims["sub"], frozenset(scope for scope in Scope if scope in words), at, end)


def is_revoked(claims: Claims, user: User) -> bool:
    """Whether the token is from before the user's tokens were revoked; one that does not say
    when it was issued is."""
    if user.revoked_at is None:
        return False
    return claims.issued_at is None or claims.issued_at <= user.revoked_at
