"""Looking at results: the gallery page, contact sheets, and images that carry their request.

Everything here reads a folder through its ``manifest.json``, which may have come from
elsewhere: paths are checked again, types are defended, text is only ever shown as text.
"""
