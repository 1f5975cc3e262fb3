"""What runs inside containers.

base     the protocols `Runtime` and `Network`
none     no process: a running container is live and mounted; no network
runc     processes in namespaces of their own
bundle   what runc is told of a container; pure
monitor  the process beside each container that runs: its output, its end
places   the files of a run
driver   the runtime that a server is configured with
"""
