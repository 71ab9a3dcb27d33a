"""The models that are trained, and how they are loaded."""
