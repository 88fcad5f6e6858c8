"""The modelling files that travel with students which no stock class can express; see ``craft.export``."""
