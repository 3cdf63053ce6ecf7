"""The tables of blind comparisons. A step that has been shipped is never changed: what comes later is a step of its own.

Prompts and answers are an evaluation in the ledger (kind `compare`), whose sides are the contestants' numbers.
"""

ROOM = "pairwise"

FIRST = """
CREATE TABLE comparisons (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  key TEXT NOT NULL UNIQUE,
  evaluation INTEGER NOT NULL REFERENCES evaluations ON DELETE CASCADE,
  created TEXT NOT NULL, contestants TEXT NOT NULL, prompts TEXT NOT NULL, seed INTEGER NOT NULL
);
CREATE TABLE questions (
  comparison INTEGER NOT NULL REFERENCES comparisons ON DELETE CASCADE,
  number INTEGER NOT NULL, position INTEGER NOT NULL, left INTEGER NOT NULL, right INTEGER NOT NULL,
  repeat_of INTEGER, same INTEGER NOT NULL,
  PRIMARY KEY (comparison, number)
) WITHOUT ROWID;
CREATE TABLE votes (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  comparison INTEGER NOT NULL, question INTEGER NOT NULL, rater TEXT NOT NULL, swapped INTEGER NOT NULL,
  choice TEXT NOT NULL, comment TEXT NOT NULL, seconds REAL NOT NULL, created TEXT NOT NULL,
  UNIQUE (comparison, rater, question, swapped),
  FOREIGN KEY (comparison, question) REFERENCES questions ON DELETE CASCADE
);
CREATE TABLE spending (
  comparison INTEGER NOT NULL REFERENCES comparisons ON DELETE CASCADE, rater TEXT NOT NULL,
  requests INTEGER NOT NULL, tokens INTEGER NOT NULL, dollars REAL NOT NULL,
  PRIMARY KEY (comparison, rater)
) WITHOUT ROWID
"""

STEPS = (FIRST,)
