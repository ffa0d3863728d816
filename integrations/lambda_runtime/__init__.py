"""AWS Lambda on this machine: one function behind a Function URL and the Invoke API, on the real Runtime API.

`event`, `response` and `faults` are pure (HTTP to event, answer to HTTP, what a call meets on purpose);
`runtime_api` is what a handler's process talks to; `environment` is one such process; `pool` starts them on
demand; `invoker` is the way to them. `front` gives each request to `function_url`, `invoke_api` or `control`;
`reload` sees changes of the file; `server` ties all together; `command_line` is the way in.
"""
