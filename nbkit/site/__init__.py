"""The site: executed notebooks, a page a paper, gallery, report, explorer and API reference, from a results folder."""
