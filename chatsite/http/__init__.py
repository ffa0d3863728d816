"""HTTP requests on their way to Django: how many are admitted, the REST API's own handler, static files, /healthz."""
