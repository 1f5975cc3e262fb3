"""The catalogue: the only place with SQL.

database    a connection pool, and transactions that read or write
schema      the tables, and how values stand in their columns
rows        table rows to frozen values and back
migrate     brings a catalogue to this program's schema; `migrations` holds the revisions
sequence    one counter that orders jobs and snapshots
servers accounts containers     who and what there is
jobs events                     what is to be done, and what happened
datasets snapshots bases        what lies in the servers' storages, and why
holdings leases unneeded        what jobs hold, who ships, what collect waits for
sole        one daemon a server id

The functions on rows take an open transaction first, so that callers compose them into one.
"""
