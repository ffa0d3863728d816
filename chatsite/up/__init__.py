"""The command `manage.py up`: starts one whole instance on this machine and keeps its processes running."""
