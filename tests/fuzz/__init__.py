"""Damage at every door that files of strangers come through: thousands in `make test`, 100,000 by `make fuzz`."""
