"""The files that hold this server's secrets, and the one way to read them."""

from __future__ import annotations

import os
import ssl
import stat

from daemon.config import Config, Limits
from daemon.errors import ConfigError


def read_secret(path: str, key: str, exact_bytes: int | None = None) -> bytes:
    """The bytes of a key file: exactly `exact_bytes` of them, or without trailing white space at
    least 32. `key` names the setting in errors.

    Raises ConfigError where the file is missing, unreadable, too short, or open to others.
    """
    try:
        with open(path, "rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read(Limits.secret_bytes_max + 1)
    except FileNotFoundError:
        raise ConfigError(f"{key}: {path} does not exist; run: hoodyd init") from None
    except OSError as error:
        raise ConfigError(f"{key}: cannot read {path}: {error.strerror}") from None
    if mode & 0o077:
        raise ConfigError(f"{key}: {path} is open to others; run: chmod 600 {path}")
    if len(content) > Limits.secret_bytes_max:
        raise ConfigError(f"{key}: {path} is larger than {Limits.secret_bytes_max} bytes")
    if exact_bytes is not None:
        if len(content) != exact_bytes:
            raise ConfigError(f"{key}: {path} must hold exactly {exact_bytes} bytes")
        return content
    content = content.rstrip()
    if len(content) < Limits.secret_bytes_min:
        raise ConfigError(f"{key}: {path} must hold at least {Limits.secret_bytes_min} bytes")
    return content


def read_token_secret(config: Config) -> bytes:
    """The key that signs HS256 tokens. Raises ConfigError."""
    return read_secret(config.auth.secret_file, "auth.secret_file")


def read_sealing_key(config: Config) -> bytes:
    """The 32 bytes that seal generated private keys. Raises ConfigError."""
    path = config.auth.sealing_key_file
    return read_secret(path, "auth.sealing_key_file", Limits.sealing_key_bytes)


def read_tls(config: Config) -> ssl.SSLContext | None:
    """What the API speaks TLS with; None where it does not. Raises ConfigError."""
    server = config.server
    if not server.tls_cert:
        return None
    for key, path in (("tls_cert", server.tls_cert), ("tls_key", server.tls_key)):
        if not os.access(path, os.R_OK):
            raise ConfigError(f"server.{key}: cannot read {path}")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        # A key that asks for a password would ask on the terminal, and wait.
        context.load_cert_chain(server.tls_cert, server.tls_key, password="")
    except (ssl.SSLError, OSError) as error:
        reason = getattr(error, "reason", None) or str(error)
        raise ConfigError(
            f"server.tls_cert: {server.tls_cert} and {server.tls_key} are no certificate with"
            f" its key: {reason}"
        ) from None
    return context
