-- For the counts of `Store.stats`, and for nothing else: how many operations of a handler are in a state, and how many of
-- those are paused. It costs a write 2 to 4 per cent (measured on batches of 250 rows). `deleted` is among the columns
-- because SQLite 3.40 reads the row to see what the condition of the index says.
CREATE INDEX operations_states ON operations (state, handler, paused, deleted) WHERE deleted = 0;
