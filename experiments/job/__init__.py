"""Being a job: training and testing one run."""
