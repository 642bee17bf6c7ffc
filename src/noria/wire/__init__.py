"""Endpoints as data: one file per resource, each row a method, a path, a request type and a response type.

The server's router, the client, and the docs read these rows; nothing else knows a path.
"""
