"""Which servers a run had, as they told it over the wire: said once, when it ends."""

_known = {}


def told(name, version):
    """`version()` is asked of the first server of that name alone."""
    if name not in _known:
        _known[name] = version()


def lines():
    """One for each."""
    return [f"{name}: {version}" for name, version in sorted(_known.items())]
