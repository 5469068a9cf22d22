"""How the tests' files are dealt to workers, each of which starts what its files share on its own."""

from collections.abc import Sequence

import pytest
from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController


class FromBothEnds(LoadFileScheduling):
    """Gives whole files, in their order to every second worker, and from the end to the others.

    Files that share a system are neighbours, so one worker starts it and goes through them; another worker starts it
    again only if it has done everything else before.
    """

    def _assign_work_unit(self, node: WorkerController) -> None:
        if int(node.gateway.id.removeprefix("gw")) % 2:
            self.workqueue.move_to_end(next(reversed(self.workqueue)), last=False)
        super()._assign_work_unit(node)


def in_order(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Return the tests with the files first that use the whole system, and each file in its own order."""
    on_system = {item.path for item in items if isinstance(item, pytest.Function) and "stack" in item.fixturenames}
    return sorted(items, key=lambda item: (item.path not in on_system, item.path))
