"""The dashboard: a team's history of runs as pages, from the database that the engine writes.

It reads through `maos_bot.store` and `maos_bot.reporting` and knows nothing of the engine. `create_app` makes the
Flask app, `web.serve` puts it behind a production server.
"""

from web.app import create_app

__all__ = ["create_app"]
