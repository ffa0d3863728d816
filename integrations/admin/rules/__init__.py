"""The admin pages of integration rules."""
