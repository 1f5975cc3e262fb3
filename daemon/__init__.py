"""The service: what a server runs. From the bottom up:

errors, model, states   the error tree; the catalogue's frozen values; a job's life
config, keyfiles, logs  the settings, the secret files, what is logged
store                   the catalogue: the only place with SQL
runtime                 what runs inside the containers
actions                 one verb a file: what a job does
engine                  claims jobs, runs them, settles them
worker, exporter,       the data plane: processes of their own, so that no bulk byte passes
keeper                  through the event loop that serves the API
news                    word that the catalogue may have changed
schedule, scheduler     when copies are synced by themselves; and that they are
auth, verbs, api        who may ask, what is asked, and the HTTP in front of it
service                 builds and runs all of it (`hoodyd run`)
setup, cli, commands    `hoodyd`, the operator's command
client, client_cli      `hoody`, the user's command
"""
