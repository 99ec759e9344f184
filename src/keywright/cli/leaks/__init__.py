"""Commands against leaks, which ask nobody: finding keys in files, and rules by which other scanners find them."""
