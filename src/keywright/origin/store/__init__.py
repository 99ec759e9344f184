"""The rows: SQL lives here and nowhere else. One module per noun; each function takes the open Transaction first."""
