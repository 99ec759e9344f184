"""What the policy is, whatever framework it stands in: its options and their meaning, and who a request comes from."""
