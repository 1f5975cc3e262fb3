"""The REST API: one resource a file, and the only place that knows HTTP.

app          make_app: the routes, and the middleware around them
routing      what an endpoint is, and the checks that come before every one
access       lookups as the caller may see them, and what a verb must pass
queueing     the one way in which an endpoint makes a job
waiting      the end of a job, for the endpoints that answer with it
events       streams of what happens, which can be taken up again
idempotency, freshness   answers that are given again; filesystems that a GET has looked at
showing      rows -> objects and pages
fields, strict_json   the kinds of values in bodies and queries; bytes -> a JSON object
errors, failures   what is refused, with status and code; everything that fails, as an envelope
runner       listens; what is no HTTP is answered in the envelope too
openapi, documented, schemas…, docs  the OpenAPI document: what makes it, and /docs for people
limits, imports, beginnings, probes   requests a minute; what may be taken in, and begun as; health
telemetry, figures        what Prometheus sees: counted here, and read at a scrape
containers copies snapshots power rules storage projects proxy images servers jobs   the resources
"""
