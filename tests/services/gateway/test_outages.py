"""Destinations that are down, silent or stop half-way for 30 s hold up no other, and have every answer once after."""

import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.chaos.proxy import Fault
from tests.services.gateway.conftest import Gateway, Start
from tests.services.gateway.systems import Systems
from tests.services.gateway.test_deliveries import DESTINATIONS, answered, publish, subscribe
from tests.support.waiting import wait_until

OUTAGE_S = 30


@dataclass(frozen=True)
class Hospital:
    """A gateway, and the systems that it delivers to."""

    gateway: Gateway
    systems: Systems
    project: str

    def heard(self, earlier: int = 0) -> Counter[str]:
        """How many answers each destination said that it took, beyond so many earlier ones of all."""
        return Counter(self.gateway.delivered()[earlier:])

    def answer(self, name: str) -> str:
        """Publish the answer for a patient's series; answers the name."""
        publish(self.project, answered(self.gateway, name))
        return name


@pytest.fixture(scope="module")
def hospital(start: Start, fallible: Systems) -> Iterator[Hospital]:
    project = f"outages-{uuid.uuid4().hex[:8]}"
    subscribe(project)
    with start(**fallible.settings(project)) as gateway:
        yield Hospital(gateway, fallible, project)


@pytest.mark.drill
@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.WITHHELD, Fault.STALLED])
@pytest.mark.parametrize(
    "failing", [("deliver-dicom", "deliver-fhir"), ("deliver-dicomweb", "deliver-hl7")], ids=["dicom-fhir", "web-hl7"]
)
def test_destinations_that_fail_for_30_s_hold_up_no_other_and_have_everything_once_afterwards(
    hospital: Hospital, failing: tuple[str, str], fault: Fault
) -> None:
    systems, run = hospital.systems, uuid.uuid4().hex[:6]
    others, earlier = [name for name in DESTINATIONS if name not in failing], hospital.heard().total()
    with systems.failing(fault, *failing):
        until = time.monotonic() + OUTAGE_S
        first = hospital.answer(f"first-{run}")
        wait_until(lambda: all(systems.has_all_of(one, first) for one in others))
        second = hospital.answer(f"second-{run}")  # what comes later is not held up either
        wait_until(lambda: all(systems.has_all_of(one, second) for one in others))
        wait_until(lambda: time.monotonic() > until)
        assert not set(failing) & set(hospital.heard(earlier))
    names = (first, second)
    wait_until(lambda: all(hospital.heard(earlier)[one] >= len(names) for one in DESTINATIONS))
    assert all(systems.has_all_of(one, name) for one in DESTINATIONS for name in names)
    assert [systems.reports(one, name) for one in DESTINATIONS for name in names] == [1] * 8
