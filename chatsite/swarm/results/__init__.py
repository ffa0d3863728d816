"""What the processes of a run saw, and the report and the plot made of it. Pure."""
