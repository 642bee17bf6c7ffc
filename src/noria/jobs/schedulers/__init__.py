"""One file for each scheduler; its name is what a user types after --on. The contract is noria.jobs.dialect.Dialect."""
