"""What breaks out of other sandboxes, tried on this one: a test for each hole that the field has had, with its answer.

Run by an ordinary user and by root, over each launcher of support/subjects.py. Contained programs are also watched in
contract/ (their view of the system, hostile trees) and leaks/; limits have a suite of their own.
"""
