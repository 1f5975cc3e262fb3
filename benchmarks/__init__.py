"""`make bench`: what copies and syncs take, beside what the machine would allow and what others
take.

The parts, each a process of its own (`measure`):
copying    copies and syncs by size, and the guide's Copy Timing table
peers      the same work by syncoid, a hand-made pipe and rsync (`tools`)
pipe       from memory to memory (`ends`), and where the time goes (`sampler`)
scale      a thousand containers (`planting`), and the `zfs` processes of a job (`counting`)

What they stand on:
options    how large they are
world      namespaces, servers and what they do
data       trees of three kinds, and their changes
ceilings   what the machine does without the product
sshd       a real one on loopback
watch      /proc: memory and CPU by role
metered    runs a program and says what it took, as a process of its own
healthz    asks /healthz twenty times a second, as a process of its own

What comes of it:
numbers    arithmetic
results    one JSON file for each part
targets    what must be reached
page       README.md, made of the files; plots, its pictures
"""
