"""HTTP: routes, identity, problems, OpenAPI, server-sent events, metrics."""
