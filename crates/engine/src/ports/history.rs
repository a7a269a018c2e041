//! What undo needs of the database: audit entries with the values before and after, and edits made in a person's name.
