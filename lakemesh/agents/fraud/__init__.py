"""Card fraud: a risk score from data, a detector that explains it, and a writer of narratives."""
