"""Looking at results: the page, contact sheets, images that carry their request, and back from an image to a job."""
