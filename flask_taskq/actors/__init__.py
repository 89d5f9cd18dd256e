"""What an application uses: actors, jobs, middleware hooks, and the broker that sends."""
