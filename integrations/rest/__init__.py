"""The REST API of tokens and callbacks: addresses, views, bodies, errors."""
