"""Reads what runs of autolora leave and shows it: `python3 -m analysis`, from the project's top.

runs.py and trace.py read; selection.py, agreement.py and methods.py compute; figures.py draws, page.py writes the
HTML page, tables.py the tables; report.py and watch.py put a command together, commands.py is the command line.
"""
