"""The review of messages before publication: the contract with reviewers, verdicts, deadlines, late verdicts."""
