"""Rules before publish as a reviewer of messages: deferrals to rules, their budgets and policies."""
