"""Creates, changes and checks integration rules."""
