"""`make bench`: figures that the product must reach, and the ceilings that they stand against.

figures    what was measured, beside its limit; the table and the JSON file
world      two daemons, containers of incompressible bytes, and their copies and syncs
watch      /proc, ten times a second: memory and CPU by role
healthz    asks /healthz twenty times a second, as a process of its own
pour       sends bytes from memory over ssh, as a process of its own
ceilings   what this machine does without the product
rounds     what is measured of each backend
"""
