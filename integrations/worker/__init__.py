"""The worker: claims deliveries, calls targets as freely as each allows, records the results."""
