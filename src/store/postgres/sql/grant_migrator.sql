-- Who makes the log's tables, and so owns them: nobody else may change them, or build an index.
CREATE SCHEMA IF NOT EXISTS "mainstem";
GRANT USAGE, CREATE ON SCHEMA "mainstem" TO /* role */;
