"""The web pages. `explore` is the first of them: a dataset in the browser."""
