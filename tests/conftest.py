import logging

import pytest


@pytest.fixture
def log(caplog, monkeypatch):
    """What the package logs, each record once, whatever its verbosity and handlers are."""
    logger = logging.getLogger("scdae")
    monkeypatch.setattr(logger, "propagate", False)
    monkeypatch.setattr(logger, "level", logging.DEBUG)
    monkeypatch.setattr(logger, "handlers", [caplog.handler])
    logger.manager._clear_cache()
    yield caplog
    logger.manager._clear_cache()
