"""The public realtime protocol: the structs of the wire, and serials."""
