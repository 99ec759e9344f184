"""Worker processes: starting them anew when they die, ending them with their parent, and finding who holds a port."""
