"""The database in Datasette, with its images."""
