"""HTML forms: urlencoded and multipart/form-data."""
