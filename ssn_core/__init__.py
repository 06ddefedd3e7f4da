"""The method: images and labels in; models, scores, anomaly maps and figures out.

Knows no database, no web page and no user. Importing this package never imports torch; the modules that compute do.
"""

__version__ = "0.1.0"
