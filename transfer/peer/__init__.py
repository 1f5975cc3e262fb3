"""Another server's storage over ssh.

messages    requests and answers: frozen values and JSON
channel     one ssh channel as a counted, bounded byte duplex
link        an ssh connection to a peer: pinned keys, algorithms, errors translated
client      PeerSource: a `Source` over a link
server      what an exporter serves, and to whom
"""
