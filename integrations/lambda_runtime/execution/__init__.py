"""How a call runs: `invoker` draws its faults, `pool` has an `environment` for it, and that is a handler's `process`
together with the `runtime_api` that this process talks to. `event_queue` runs calls whose answer nobody waits for.
"""
