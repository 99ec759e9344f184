"""What a key is: pure rules and values. Standard library only, no I/O; the clock comes in as an argument."""
