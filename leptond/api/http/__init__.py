"""HTTP itself: the server, its middleware, the route table, identity, server-sent events and the OpenAPI
document."""
