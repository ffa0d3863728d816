"""AWS Lambda on this machine: one function behind a Function URL, on the real Runtime API.

`event` and `response` are pure (HTTP to event, answer to HTTP); `runtime_api` is what a handler's process
talks to; `environment` is one such process; `pool` starts them on demand; `function_url` and `server` tie
them together; `command_line` is the way in.
"""
