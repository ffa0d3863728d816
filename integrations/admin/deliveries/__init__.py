"""The admin pages of deliveries, attempts and lanes."""
