"""What the planes say to each other: changes, frames, reports, snapshot files. Standard library only, no I/O."""
