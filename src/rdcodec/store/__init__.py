"""The results store: records, the database that keeps them, and the files they travel in. Standard library only."""
