"""Faults of processes: signals to drivers, Spark's Java, Python workers, engines and their supervisors."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Callable

import psutil

from tests.chaos.fault import Fault
from tests.chaos.scene import RUN_S, TASKS, Scene, command_of
from tests.support.driver import GONE_S, Driver, wait

SERVER, SUPERVISOR, PYTHON_WORKER = "hybrid_batch.engines.fake_server", "hybrid_batch.engines.supervisor", "pyspark"
HANG_S = 3.0


def servers(scene: Scene, *drivers: Driver, module: str = SERVER) -> list[psutil.Process]:
    """The engines' servers; the guard beside each has the same command line and is no leader of its group."""
    return [process for process in scene.family(module, *drivers) if _leads(process)]


def workers_at_work(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those Python workers among ``processes`` that are connected to an engine."""
    ports = {int(found[1]) for process in processes if (found := re.search(r"--port[= ](\d+)", command_of(process)))}
    workers = [process for process in processes if "daemon" in command_of(process)]
    return [worker for worker in workers if ports & _connected_to(worker)]


def _leads(process: psutil.Process) -> bool:
    with contextlib.suppress(ProcessLookupError):
        return os.getpgid(process.pid) == process.pid
    return False


def _connected_to(process: psutil.Process) -> set[int]:
    with contextlib.suppress(psutil.Error):
        found = process.net_connections("tcp")
        return {one.raddr.port for one in found if one.raddr and one.status == psutil.CONN_ESTABLISHED}
    return set()


def at_work(scene: Scene) -> list[psutil.Process]:
    """Python workers that ask an engine at this moment; waits until there are any."""
    found: list[psutil.Process] = []

    def look() -> bool:
        found[:] = workers_at_work(scene.family(""))
        return bool(found)

    scene.until(look)
    return found


def end_driver(number: signal.Signals, *, group: bool = False, results: int = 3) -> Callable[[Scene], None]:
    """Send a signal to the driver in the middle of generation, as a terminal does to its ``group``."""

    def act(scene: Scene) -> None:
        driver = scene.start()
        scene.until_results(results)
        _end(scene, driver, number, group=group)

    return act


def _end(scene: Scene, driver: Driver, number: signal.Signals, *, group: bool = False) -> None:
    scene.struck()
    driver.send(number, group=group)
    driver.process.wait(GONE_S)


def end_driver_when(there: Callable[[Scene], bool]) -> Callable[[Scene], None]:
    """kill -9 of the driver at the moment when ``there`` holds."""

    def act(scene: Scene) -> None:
        driver = scene.start()
        scene.until(lambda: there(scene))
        _end(scene, driver, signal.SIGKILL)

    return act


def in_score(scene: Scene) -> bool:
    """Parts are scored, and no tier is decided."""
    return bool(scene.there("/scored/part-")) and not scene.there("/routed/")


def in_routing(scene: Scene) -> bool:
    return bool(scene.there("/routed/tier="))


def in_accounting(scene: Scene) -> bool:
    """All results are there, and the manifest is not."""
    names = scene.objects.stamps()
    shards = [name for name in names if "/routed/tier=" in name]
    results = [name for name in names if "/results/tier=" in name]
    return bool(shards) and len(shards) == len(results)


def again_and_again(scene: Scene) -> None:
    for results in (1, 4, 7):
        driver = scene.start()
        scene.until_results(results)
        scene.struck()
        driver.send(signal.SIGKILL, group=False)
        driver.process.wait(GONE_S)


def lose_machine(scene: Scene) -> None:
    """kill -9 of the driver and everything that came of it, as when its machine is gone."""
    driver = scene.start()
    scene.until_results(3)
    scene.struck()
    driver.process.kill()
    driver.process.wait()
    while family := driver.family():
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def kill(choose: Callable[[Scene], list[psutil.Process]], *, driver_ends: bool = False) -> Callable[[Scene], None]:
    """kill -9 of what ``choose`` finds, in the middle of generation."""

    def act(scene: Scene) -> None:
        driver = scene.start()
        scene.until_results(3)
        at_work(scene)
        victims = choose(scene)
        assert victims, "there is nothing to kill"
        scene.struck()
        for victim in victims:
            victim.kill()
        if driver_ends:
            driver.process.wait(GONE_S)

    return act


def one_worker(scene: Scene) -> list[psutil.Process]:
    return at_work(scene)[:1]


def java(scene: Scene) -> list[psutil.Process]:
    return scene.family("org.apache.spark.deploy.SparkSubmit")


def supervisors(scene: Scene) -> list[psutil.Process]:
    return scene.family(SUPERVISOR)


def stop_engine(scene: Scene) -> None:
    """SIGSTOP: it accepts connections, as its kernel does, and never answers."""
    scene.document["tiers"]["large"]["request_timeout_s"] = HANG_S
    scene.start()
    scene.until_results(3)
    at_work(scene)
    scene.struck()
    for server in servers(scene):
        server.send_signal(signal.SIGSTOP)


def wake_zombies(scene: Scene) -> None:
    """The Python workers of one driver sleep while another driver does their shards, and then go on."""
    first = scene.start()
    scene.until_results(3)
    sleepers: list[psutil.Process] = []
    wait(lambda: len(_stopped(scene, sleepers)) == TASKS, GONE_S)
    scene.struck()
    second = scene.start()
    assert second.process.wait(RUN_S) == 0, second.output
    assert first.process.poll() is None, "the first driver did not wait for its workers"
    for sleeper in sleepers:
        sleeper.send_signal(signal.SIGCONT)
    first.process.wait(RUN_S)


def _stopped(scene: Scene, sleepers: list[psutil.Process]) -> list[psutil.Process]:
    for worker in workers_at_work(scene.family("")):
        if worker not in sleepers:
            worker.send_signal(signal.SIGSTOP)
            sleepers.append(worker)
    return sleepers


def two_drivers(scene: Scene) -> None:
    """Both start, and go on side by side; whatever each finds done it leaves."""
    scene.start()
    scene.struck()
    scene.start()


FAULTS = [
    Fault("ctrl-c", "Ctrl-C in generation", end_driver(signal.SIGINT, group=True), shards_lost=TASKS),
    Fault("sigterm", "kill -TERM of the driver in generation", end_driver(signal.SIGTERM), shards_lost=TASKS),
    Fault("kill-driver", "kill -9 of the driver in generation", end_driver(signal.SIGKILL), shards_lost=TASKS),
    Fault("kill-driver-scoring", "kill -9 of the driver while it scores", end_driver_when(in_score)),
    Fault("kill-driver-routing", "kill -9 of the driver while shards are written", end_driver_when(in_routing)),
    Fault("kill-driver-accounting", "kill -9 between last shard and manifest", end_driver_when(in_accounting)),
    Fault(
        "kill-driver-thrice", "kill -9 of three drivers, one after the other", again_and_again, shards_lost=3 * TASKS
    ),
    Fault("kill-all", "kill -9 of all processes at once (machine lost)", lose_machine, shards_lost=TASKS),
    Fault("kill-java", "kill -9 of Spark's Java", kill(java, driver_ends=True), shards_lost=TASKS),
    Fault("kill-worker", "kill -9 of a Python worker", kill(one_worker), shards_lost=1),
    Fault("kill-engine", "kill -9 of the engine", kill(servers), shards_lost=TASKS),
    Fault("kill-supervisor", "kill -9 of the engine's supervisor", kill(supervisors), shards_lost=TASKS),
    Fault("stop-engine", "the engine hangs (SIGSTOP)", stop_engine, shards_lost=TASKS),
    Fault("zombie", "workers sleep, their shards are done, they wake", wake_zombies, shards_lost=TASKS),
    Fault("two-drivers", "two drivers at once", two_drivers, shards_lost=None),
]
