"""The tasks, in chapters: each is its flags, its help and one call; what it does stands in etcdops/steps/.

tasks.py is their table of contents.
"""
