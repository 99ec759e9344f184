"""What the edge is asked over HTTP: by a gateway in the segment of a path, by a program in a body."""
