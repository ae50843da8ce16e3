"""`python -m i2m2.sweep`: the runs of a table, in processes of this machine or as SLURM jobs."""
