"""The demo of several parties: each a process with its own keys and policy; attacks; a live page.

The director (director.py) starts the processes and carries what they publish from one to the other; the page
and the terminal show what the processes say, and nothing else.
"""
