"""`noria-spool:` for the mlflow client: where it writes and reads on a node without a network."""
