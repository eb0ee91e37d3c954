"""The preset language: files that a team keeps and reviews, into the jobs that they mean. Start at ``load``."""
