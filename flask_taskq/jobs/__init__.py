"""What a job is: pure data and rules. No I/O, no Flask, no threads."""
