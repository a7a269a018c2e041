//! What comparing both sides needs of the database: the linked rows in order, what waits, and a place for the result.
