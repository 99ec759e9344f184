"""Both planes on one machine, in one command. `worker` is what each process runs, `first_start` makes a deployment."""
