"""A worker: the threads of one process that fetch, run, watch, and settle jobs."""
