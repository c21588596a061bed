"""From a trained model to files that engines run: deployed, exported, verified, described."""
