"""A report on one model: one HTML file that needs nothing else, for the screen and for A4 paper.

:class:`ssn_core.report.facts.Facts` says what a report tells; :func:`ssn_core.report.document.render` makes the file.
The same facts give the same bytes. Only the block of dates, between two marks, differs from one writing to the next.
"""
