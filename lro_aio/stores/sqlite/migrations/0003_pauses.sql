-- Pauses, failures that are not the end yet, deadlines, and the state with which an operation began. A process of an older
-- release leaves these columns as they are, and a row that is paused alone: no look finds it, and nobody has its token.
ALTER TABLE operations ADD COLUMN paused INTEGER NOT NULL DEFAULT 0;
ALTER TABLE operations ADD COLUMN failure BLOB NOT NULL DEFAULT x'';
ALTER TABLE operations ADD COLUMN deadline REAL;
ALTER TABLE operations ADD COLUMN initial_data BLOB NOT NULL DEFAULT x'';
ALTER TABLE operations ADD COLUMN initial_codec TEXT NOT NULL DEFAULT '';
