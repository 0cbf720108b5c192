"""Faults of executors: a real Spark cluster of one master and two workers, each executor a Java process of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import psutil
import pyspark

from tests.chaos.fault import Fault
from tests.chaos.front import OnceFront
from tests.chaos.processes import workers_at_work
from tests.chaos.scene import RUN_S, TASKS, Scene, command_of, on_s3
from tests.s3.flaky_front import Request
from tests.support.driver import MARK, wait

SPARK = Path(pyspark.__file__).parent
EXECUTOR = "org.apache.spark.executor.CoarseGrainedExecutorBackend"
HOSTS = ("127.0.0.2", "127.0.0.3")
"""Spark never runs a task twice at once on one host."""

_START_S, _END_S = 60.0, 30.0
_CONF = {
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.executor.memory": "512m",
    "spark.executor.cores": "1",
    "spark.cores.max": str(len(HOSTS)),
}
_SPECULATION = {
    "spark.speculation": "true",
    "spark.speculation.interval": "200ms",
    "spark.speculation.multiplier": "2",
    "spark.speculation.quantile": "0.2",
    "spark.speculation.minTaskRuntime": "500ms",
}


class Cluster:
    """A Spark cluster on loopback; its executors get ``environment``."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._mark = uuid.uuid4().hex
        self._folder = folder
        self._environment = {
            **environment,
            MARK: self._mark,
            "SPARK_HOME": str(SPARK),
            "SPARK_DAEMON_MEMORY": "256m",
            "SPARK_NO_DAEMONIZE": "1",
        }
        self._daemons: list[subprocess.Popen[bytes]] = []
        folder.mkdir()
        port = _free_port()
        self.master = f"spark://127.0.0.1:{port}"
        self._daemon("master.Master", "--host", "127.0.0.1", "--port", port, "--webui-port", 0)
        wait(lambda: _listens(port), _START_S)
        for host in HOSTS:
            size = ("--cores", 1, "--memory", "600m", "--work-dir", folder / host)
            self._daemon("worker.Worker", "--host", host, "--webui-port", 0, *size, self.master)

    def family(self) -> list[psutil.Process]:
        """Executors, their Python workers and engines, and the cluster's own daemons."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def executors(self) -> list[psutil.Process]:
        return [process for process in self.family() if EXECUTOR in command_of(process)]

    def close(self) -> None:
        for daemon in self._daemons:
            daemon.terminate()
        for daemon in self._daemons:
            daemon.wait(_END_S)
        with contextlib.suppress(AssertionError):
            wait(lambda: not self.family(), _END_S)
        for process in self.family():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def _daemon(self, kind: str, *arguments: object) -> None:
        log = self._folder / f"{kind}-{len(self._daemons)}.log"
        with log.open("wb") as output:
            self._daemons.append(
                subprocess.Popen(
                    [SPARK / "bin" / "spark-class", f"org.apache.spark.deploy.{kind}", *map(str, arguments)],
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            )

    def _is_ours(self, process: psutil.Process) -> bool:
        with contextlib.suppress(psutil.Error):
            return process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == self._mark
        return False


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def _with_cluster(scene: Scene, **conf: str) -> Cluster:
    cluster = Cluster(scene.folder / "cluster", scene.environment)
    scene.ends.callback(cluster.close)
    scene.document["spark"] = {"master": cluster.master, "conf": _CONF | conf}
    scene.document["tiers"]["large"]["engine_args"]["tokens_per_second"] = 40  # of each of the two engines
    return cluster


def lose_executor(scene: Scene) -> None:
    """kill -9 of an executor's Java; its Python worker is left to itself."""
    cluster = _with_cluster(scene)
    scene.start()
    scene.until_results(3)
    scene.until(lambda: len(workers_at_work(cluster.family())) == TASKS)
    scene.struck()
    cluster.executors()[0].kill()


def lose_executor_at_commit(*, stored: bool) -> Callable[[Scene], None]:
    """An executor and all that belongs to it end when the put of a result arrives, before it is stored or after."""

    def act(scene: Scene) -> None:
        def end_sender(request: Request, body: bytes) -> None:
            scene.struck()
            if stored:
                request.front.forward(request, body)
            _end_executor_of(request.client_address[1])
            request.break_off()

        front = OnceFront(
            scene.environment["AWS_ENDPOINT_URL"], end_sender, lambda request: _commits_third(scene, request)
        )
        scene.ends.enter_context(front)
        scene.environment["AWS_ENDPOINT_URL"] = front.endpoint
        _with_cluster(scene)
        front.awake = True
        driver = scene.start()
        driver.process.wait(RUN_S)
        assert front.struck, "no executor was ended"

    return act


def _commits_third(scene: Scene, request: Request) -> bool:
    return request.command == "PUT" and "/results/tier=large/shard-000003" in unquote(request.path)


def _end_executor_of(port: int) -> None:
    """kill -9 of the executor whose Python worker has this local port, with all of its processes."""
    [worker] = {
        one.pid for one in psutil.net_connections("tcp") if one.laddr and one.laddr.port == port and one.pid
    } - {os.getpid()}
    executor = next(process for process in psutil.Process(worker).parents() if EXECUTOR in command_of(process))
    for process in [executor, *executor.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def speculate(scene: Scene) -> None:
    """One task sleeps; Spark runs a second copy of it elsewhere, which wins, and then the first wakes."""
    cluster = _with_cluster(scene, **_SPECULATION)
    driver = scene.start()
    scene.until_results(3)
    sleeper: list[psutil.Process] = []

    def at_work() -> bool:
        sleeper[:] = workers_at_work(cluster.family())[:1]
        return bool(sleeper)

    scene.until(at_work)
    scene.struck()
    sleeper[0].send_signal(signal.SIGSTOP)
    planned = len(scene.there("/routed/tier="))
    scene.until(lambda: len(scene.results()) == planned)
    with contextlib.suppress(psutil.NoSuchProcess):
        sleeper[0].send_signal(signal.SIGCONT)
    driver.process.wait(RUN_S)


def _at_commit(name: str, what: str, *, stored: bool) -> Fault:
    return Fault(name, what, lose_executor_at_commit(stored=stored), on_s3, shards_lost=1)


FAULTS = [
    Fault("kill-executor", "kill -9 of an executor", lose_executor, shards_lost=1),
    _at_commit("executor-before-commit", "an executor ends as it commits: not stored", stored=False),
    _at_commit("executor-after-commit", "an executor ends as it commits: stored", stored=True),
    Fault("speculation", "speculation on, one task sleeps and wakes late", speculate, shards_lost=1),
]
