"""The root article's claims put to the test: `python -m experiments run C9`; docs/experiments.md has what came out.

claims/ says what the article claims, which arms decide it and when; an arm is trained or measured, scored frame by frame and
kept in results/, one small file for each arm and seed; page.py writes docs/experiments.md from these files.
"""
