"""The catalogue's revisions; alembic runs `env.py` for each use of `versions`."""
