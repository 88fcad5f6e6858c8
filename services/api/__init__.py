"""FastAPI: the application, its routes, schemas and errors."""
