"""The nouns of `hoody`, one file each, and what they share.

login        where the API is and the token, kept in the user's config
containers   copy, sync, create, power, delete; listing and lineage
snapshots    create, list, restore, alias, delete
images       list, show, icon, import, purchase, rate, mine
jobs         list, show, watch, cancel
projects     list, create
proxy        create, list, delete
servers      list
session      url and token, finding things by name or prefix, exit codes
waiting      progress bars until jobs have ended
output       tables, sizes, times, JSON
"""
