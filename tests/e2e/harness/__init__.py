"""Drives the real binary over real sockets.

Read `server.Heddle` (the child process) and `device.Device` (a client as CONTRACT asks) first. Nothing here knows how
the host works inside; what differs between builds (names of keys, where a plugin lands) stands in `settings`.
"""
