"""A dataset in the browser: searched, faceted, sampled and queried, offline and read-only.

    Sources -> open_database -> an SQLite file (cached by content) -> make_app -> ASGI app

SQLite's FTS5 searches, datasette shows; what is here makes the table (`table.py`), the file (`database.py`), the questions
that come along (`queries.py`) and the site around it (`site.py`).
"""

from pacos.lazy import lazy

__all__ = ["Built", "Sources", "make_app", "open_database"]
__getattr__ = lazy(
    __name__, {"Built": "database", "Sources": "database", "open_database": "database", "make_app": "site"}
)
