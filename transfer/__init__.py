"""The data path: what moves a container's filesystem from one server to another.

It knows no HTTP, no database, no config file and no Prometheus. From the bottom up:

errors, model       the error tree; frozen values
at_once             works that do not wait for each other
plan, retain        pure decisions: which sends, what collect destroys
frames, codec       sans-IO framing; zstd and xxh3 stages
effort              how hard zstd tries
pipeline, command   the loop that moves bytes; the one place that starts child processes
storage             the protocols `Source` and `Storage` and the backends
tree                content diff
peer                a `Source` over ssh, and the server behind it
replicate           ensure(): plan, hold, ship, verify, release
"""
