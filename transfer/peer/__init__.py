"""Another server's storage over ssh.

plain       dataclasses to JSON values and back
messages    requests and answers: frozen values and JSON
channel     one ssh channel as a counted, bounded byte duplex
traffic     what moves through channels, by what it is a part of
link        an ssh connection to a peer: pinned keys, algorithms, errors translated
client      PeerSource: a `Source` over a link
answers     answering one request from a storage, after the gate
refusals    what is refused, told in the log in few lines
server      what an exporter listens with: who may log in, and what is refused
"""
