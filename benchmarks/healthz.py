"""Asks one server's /healthz twenty times a second until its input ends, then prints the answers'
seconds as JSON. `python -m benchmarks.healthz HOST PORT`

A process of its own with blocking sockets, so that nothing else that the benchmark does is in the
figures. An answer is waited for from the moment when it was asked for; where the answer before it
came too late, from the moment when it should have been: a server that hangs for a second has
missed twenty answers, not one.
"""

from __future__ import annotations

import http.client
import json
import select
import sys
import time

PER_SECOND = 20
ANSWER_SECONDS = 30.0


def main(host: str, port: int) -> None:
    """Asks and prints. Raises where the server does not answer 200."""
    connection = http.client.HTTPConnection(host, port, timeout=ANSWER_SECONDS)
    _ask(connection)  # the connection's own set-up is no part of an answer
    seconds: list[float] = []
    due = time.perf_counter()
    while True:
        due += 1 / PER_SECOND
        wait = due - time.perf_counter()
        if select.select([sys.stdin], [], [], max(0.0, wait))[0]:
            break
        began = due if wait < 0 else time.perf_counter()
        _ask(connection)
        seconds.append(time.perf_counter() - began)
    json.dump(seconds, sys.stdout)


def _ask(connection: http.client.HTTPConnection) -> None:
    connection.request("GET", "/healthz")
    answer = connection.getresponse()
    answer.read()
    if answer.status != 200:
        raise SystemExit(f"/healthz answers {answer.status}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
