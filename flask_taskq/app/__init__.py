"""The part that knows Flask: the extension, the app context of jobs, and app signals."""
