"""The public realtime protocol: the shapes of the wire and serials."""
