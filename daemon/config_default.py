"""The commented config that `hoodyd init` writes where there is none."""

from __future__ import annotations

import json
import os

from daemon.config import DEFAULT_PATH

_TEXT = """\
# hoodyd's configuration. Every key can also be given as HOODY_SECTION__KEY in the environment.
# Lines that are commented out show the default.

[server]
# name = "node-us"                   # default: this machine's host name
listen = "127.0.0.1:8470"            # REST API; beyond loopback it needs tls_* or behind_proxy
# metrics_listen = "127.0.0.1:8472"  # /metrics here instead; TLS as for listen
# tls_cert = ""
# tls_key = ""
# behind_proxy = false
state_dir = {state_dir}
# domain = "containers.example"
# country = ""                       # also country_name, city, region, datacenter,
# is_free = false                    # is_free and disk_gb: shown by the API
# max_containers = 100

[peer]
listen = "127.0.0.1:8471"            # other servers come in here, over ssh
# advertise = "10.0.0.5:8471"        # what they dial; default: listen, if that is no wildcard

[storage]
backend = "dir"                      # zfs | dir
root = {root}
mount_root = {mount_root}
# import_roots = ["/srv/images"]     # where admins may create containers from; default: nowhere

[database]
url = {url}
# url = "postgresql://hoody@db.example/hoody?sslmode=verify-full"

[auth]
# algorithm = "HS256"                # or EdDSA, ES256, RS256, with public_key_file
secret_file = {secret_file}
sealing_key_file = {sealing_key_file}
# audience = ""

[runtime]
# driver = "none"                    # none | runc: as root, containers run their command
# network = "10.88.0.0/16"           # their addresses; each daemon of a machine has its own

[transfer]
# max_concurrent = 4                 # jobs at a time; one more where it is a short one
# exporters = 2                      # processes that serve other servers
# compression = "auto"               # auto | none | 1..19
# bandwidth_limit_bytes_per_second = 0
# stall_seconds = 120
# base_ttl_days = 30
# collect_grace_seconds = 600

[timing]
# heartbeat_seconds = 5
# server_lost_seconds = 600
# retry_attempts = 8
# retry_seconds = 1800
# sweep_seconds = 60

[limits]
# body_bytes = 1048576
# jobs_per_user = 200
# requests_per_minute = 1200
# streams_per_user = 8
# snapshots_per_container = 1000

[log]
# format = "json"                    # json | console
# level = "info"
"""


def default_toml(path: str = DEFAULT_PATH) -> str:
    """The text for a config at `path`: dir backend, loopback, SQLite.

    Beside the system's own path everything lives under the config's directory, so that a trial
    needs no root and leaves nothing outside it.
    """
    home = os.path.dirname(os.path.abspath(path))
    system = os.path.abspath(path) == DEFAULT_PATH
    state = "/var/lib/hoody" if system else os.path.join(home, "state")
    return _TEXT.format(
        state_dir=_quoted(state),
        root=_quoted(os.path.join(state, "storage")),
        mount_root=_quoted("/srv/hoody" if system else os.path.join(home, "mounts")),
        url=_quoted(f"sqlite:///{state}/hoody.db"),
        secret_file=_quoted(os.path.join(home, "jwt.secret")),
        sealing_key_file=_quoted(os.path.join(home, "sealing.key")),
    )


def _quoted(text: str) -> str:
    """A TOML basic string; JSON's escapes are a subset of TOML's."""
    return json.dumps(text)
