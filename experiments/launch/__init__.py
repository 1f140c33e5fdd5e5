"""Planning, checking and starting runs, here and on a cluster."""
