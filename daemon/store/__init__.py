"""The catalogue: the only place with SQL.

database    a connection pool, and transactions that read or write
schema      the tables; columns: how values stand in them
rows        table rows to frozen values and back
migrate     brings a catalogue to this program's schema; `migrations` holds the revisions
sequence    one counter that orders jobs and snapshots
servers accounts containers     who and what there is
user_snapshots                  the states that users have kept, and who lists them
jobs events idempotency         what is to be done, what happened, what was answered
schedules                       when syncs begin by themselves
looks                           who is asked to look at a filesystem, and what was seen
images image_uses               what containers begin as, and where that is needed
datasets snapshots bases        what lies in the servers' storages, and why
holdings leases unneeded        what jobs hold, who ships, what collect waits for
listen      PostgreSQL's word of what other servers wrote
sole        one daemon a server id

The functions on rows take an open transaction first, so that callers compose them into one.
"""
