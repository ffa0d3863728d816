"""The review of messages: the contract with reviewers, their verdicts, on time and late."""
