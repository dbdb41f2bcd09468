"""HTML forms, urlencoded or multipart/form-data."""
