"""Commands of this project that need one another, and the engines that run them: this machine, Slurm, Ray."""
