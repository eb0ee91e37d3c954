"""Jobs to the end: submitted, waited for, saved, recorded. Start at ``run``."""
