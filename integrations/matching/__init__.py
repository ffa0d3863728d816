"""Finds the rules that receive an event: the current rules, and the filters of each."""
