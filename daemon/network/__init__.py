"""The network of a server's containers, and their rules.

ground      names, addresses and hardware addresses, all derived from ids
ruleset     pure: rules -> the text that nft reads
addresses   which container has which address
commands    ip, bridge and nft
forwards    which ports of the server are taken
network     `Network`: containers up, down, and with new rules
keeping     the keeper's part: rules that change take effect while containers run
"""
