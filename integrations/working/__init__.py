"""The worker: takes what is owed, calls as freely as each target bears, and records what that brought."""
