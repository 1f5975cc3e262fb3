"""Content diff: trees of files, compared by digest and rebuilt chunk by chunk.

source      the protocol of the side that has the tree
chunk       cutting files, digests, sparse copies of one file
node        one directory of a manifest, as bytes
manifest    the Merkle manifest of a whole tree
index       which live inode held which content, so that it need not be read again
descriptor  opening, linking and syncing by held directory descriptors
scan, copy  walking a tree: to its manifest, and to a copy of it besides
archive     reading a tar archive that anybody may have made
unpack      a tree from one
remove      taking a tree away, however deep it is
fetch       the source's manifest, as far as it differs from a base's
stage       the files that are not here yet, chunk by chunk, resumable
assemble    a tree from a manifest, a base and staged files
apply       fetch, stage, assemble, verify
"""
