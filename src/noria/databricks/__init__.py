"""A Databricks workspace, as the rooms above ask it: who asks (`workspace.py`), what things are called there (`names.py`), files (`files.py`)
and registered models (`registry.py`). Who may come in, and how often a call is tried, is left to databricks-sdk; what MLflow keeps is asked
by MLflow's REST API."""
