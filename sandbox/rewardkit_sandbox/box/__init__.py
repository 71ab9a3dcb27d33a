"""What runs inside of the box. Standard library only; the sources are sent to the box, never installed there."""
