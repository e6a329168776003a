-- The key that a node encrypts with: a key that some node still uses is not taken off the list.
ALTER TABLE node ADD COLUMN key bytea;
