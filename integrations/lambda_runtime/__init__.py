"""AWS Lambda on this machine: one function behind a Function URL and the Invoke API, on the real Runtime API.

`endpoints` is what a caller talks to, `execution` is how a call runs, `http_server` carries both. `command_line` is the
way in, `server` puts all together, `reload` sees changes of the handler's folder.
"""
