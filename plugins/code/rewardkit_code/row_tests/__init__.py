"""The tests of a row: the formats they are written in, and the plain form they are read into."""
