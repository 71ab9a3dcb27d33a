"""The code that runs inside a box. Standard library only; its sources are sent to the box, never installed there."""
