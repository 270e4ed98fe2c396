"""Views over arrays and callables they are given. Rank 4: imports core and figures."""
