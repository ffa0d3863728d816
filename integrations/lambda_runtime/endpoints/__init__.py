"""What a caller talks to: the Function URL, the Invoke API and the control path; `router` decides between them.

`event` and `response` are pure: HTTP to event, and a handler's answer to HTTP.
"""
