"""All faults, in the order in which they are shown."""

from __future__ import annotations

from tests.chaos import clusters, engines, processes, stores
from tests.chaos.fault import Fault
from tests.chaos.scene import Scene

FAULTS: dict[str, Fault] = {
    fault.name: fault for module in (processes, clusters, stores, engines) for fault in module.FAULTS
}


def nothing(scene: Scene) -> None:
    """A run that nothing happens to: what the others are compared with."""
    scene.start()
    scene.until_results(3)
    scene.struck()


CLEAN = Fault("clean", "nothing", nothing)
