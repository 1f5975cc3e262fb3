"""The files that hold this server's secrets, and the one way to read them."""

from __future__ import annotations

import os
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
