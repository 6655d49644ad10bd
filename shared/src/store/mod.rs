//! Every SQL statement, in the file of the table that it changes.
