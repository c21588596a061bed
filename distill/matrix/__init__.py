"""The transfer experiment: students are trained alone and by teachers, seed by seed, and compared."""
