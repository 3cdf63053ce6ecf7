"""The ledger's tables. A step that has been shipped is never changed: what comes later is a step of its own.

subjects 1--n sides n--1 evaluations 1--n items n--1 prompts
                \\__________ answers __________/          an answer: one side of one item
                                \\-- scores               its counts by metric, whose sums are the figures
"""

ROOM = "evaluation"

FIRST = """
CREATE TABLE subjects (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL, base TEXT NOT NULL, revision TEXT NOT NULL, weights_sha256 TEXT NOT NULL,
  adapter TEXT NOT NULL, adapter_sha256 TEXT NOT NULL, contract_sha256 TEXT NOT NULL,
  UNIQUE (name, base, revision, weights_sha256, adapter, adapter_sha256, contract_sha256)
);
CREATE TABLE evaluations (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  kind TEXT NOT NULL, name TEXT NOT NULL, created TEXT NOT NULL, verdict TEXT NOT NULL,
  data TEXT NOT NULL, dataset_sha256 TEXT NOT NULL, split_sha256 TEXT NOT NULL,
  sampling TEXT NOT NULL, seed INTEGER NOT NULL, versions TEXT NOT NULL, record TEXT NOT NULL, result TEXT NOT NULL
);
CREATE TABLE sides (
  evaluation INTEGER NOT NULL REFERENCES evaluations ON DELETE CASCADE,
  side TEXT NOT NULL, subject INTEGER NOT NULL REFERENCES subjects,
  PRIMARY KEY (evaluation, side)
) WITHOUT ROWID;
CREATE TABLE prompts (
  id TEXT PRIMARY KEY, instruction TEXT NOT NULL, input TEXT NOT NULL, reference TEXT NOT NULL
);
CREATE TABLE items (
  evaluation INTEGER NOT NULL REFERENCES evaluations ON DELETE CASCADE,
  position INTEGER NOT NULL, prompt TEXT NOT NULL REFERENCES prompts, groups TEXT NOT NULL, cluster TEXT NOT NULL,
  PRIMARY KEY (evaluation, position)
) WITHOUT ROWID;
CREATE INDEX items_by_prompt ON items (prompt);
CREATE TABLE answers (
  evaluation INTEGER NOT NULL, side TEXT NOT NULL, position INTEGER NOT NULL,
  prompt_ids BLOB NOT NULL, text TEXT NOT NULL, ids BLOB NOT NULL, finish_reason TEXT NOT NULL,
  tokens INTEGER NOT NULL, generated_tokens INTEGER NOT NULL, seconds REAL NOT NULL, nll REAL, nll_tokens INTEGER,
  PRIMARY KEY (evaluation, side, position),
  FOREIGN KEY (evaluation, side) REFERENCES sides ON DELETE CASCADE,
  FOREIGN KEY (evaluation, position) REFERENCES items ON DELETE CASCADE
);
CREATE TABLE scores (
  evaluation INTEGER NOT NULL, side TEXT NOT NULL, position INTEGER NOT NULL, metric TEXT NOT NULL, counts TEXT NOT NULL,
  PRIMARY KEY (evaluation, side, position, metric),
  FOREIGN KEY (evaluation, side, position) REFERENCES answers ON DELETE CASCADE
) WITHOUT ROWID
"""

STEPS = (FIRST,)
