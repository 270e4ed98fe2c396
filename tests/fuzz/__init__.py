"""Made-up damage at every door that files of strangers come through. `make test` tries thousands, `make fuzz` 100,000."""
