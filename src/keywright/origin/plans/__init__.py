"""Plans of a bucket: names for scopes and limits that many consumers share."""
