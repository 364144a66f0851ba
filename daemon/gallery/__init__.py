"""What was decided, as pages for a browser on this machine."""
