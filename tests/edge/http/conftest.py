from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edge.world import DIGESTER, NOW
from endpoints.table import fill
from keywright.edge.http.validate import ValidateApi
from keywright.edge.validator import Validator

if TYPE_CHECKING:
    from keywright.edge.replica.replica import Replica


@pytest.fixture
def validator(replica: Replica) -> Validator:
    fill(replica)
    return Validator(replica, DIGESTER, clock=lambda: NOW)


@pytest.fixture
def empty_validator(replica: Replica) -> Validator:
    return Validator(replica, DIGESTER, clock=lambda: NOW)


@pytest.fixture
def api(validator: Validator) -> ValidateApi:
    return ValidateApi(validator)
