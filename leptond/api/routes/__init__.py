"""The handlers, one module a subject: they read a request, call the store, and answer with a view."""
