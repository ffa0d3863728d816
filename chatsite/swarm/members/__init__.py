"""The members of a run: they attach, receive, check what they receive, leave and come back."""
