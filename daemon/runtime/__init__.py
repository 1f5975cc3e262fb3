"""What runs inside containers.

base    the protocol `Runtime`
none    no process: a running container is live and mounted
"""
