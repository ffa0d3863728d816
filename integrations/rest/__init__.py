"""The REST API of tokens and callbacks: URLs, views, formats of bodies, errors."""
