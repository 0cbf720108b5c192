"""A real S3 server for tests: Ceph's RADOS Gateway with one monitor and one in-memory OSD, on loopback.

As a script::

    eval "$(python tests/s3/ceph_gateway.py start --bucket demo)"    # prints export lines
    python tests/s3/ceph_gateway.py stop

As a module::

    with CephGateway() as gateway:
        gateway.create_bucket("demo")
        os.environ.update(gateway.environment())

Data lives in memory and in a temporary folder; nothing is left after ``stop``.  No root rights are needed.
Debian and Ubuntu: ``apt-get install --no-install-recommends ceph-mon ceph-osd ceph-common radosgw``.
"""

import argparse
import contextlib
import ctypes
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

PROGRAMS = ("ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
HOW_TO_INSTALL = "apt-get install --no-install-recommends ceph-mon ceph-osd ceph-common radosgw"
REGION = "us-east-1"
_START_SECONDS = 90.0
_STOP_SECONDS = 10.0
_PR_SET_PDEATHSIG = 1
_FRONT_END = "client.admin"
_USER = "tester"

_CONFIG = """\
[global]
fsid = {fsid}
mon initial members = a
mon host = [v2:127.0.0.1:{mon_port}/0]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
keyring = {folder}/keyring
log file = {folder}/$name.log
log to stderr = false
err to stderr = false
admin socket =
pid file =
run dir = {folder}
crash dir = {folder}
auth allow insecure global id reclaim = true
mon data = {folder}/mon
mon allow pool size one = true
mon data avail crit = 1
paxos propose interval = 0.02
paxos min wait = 0.01
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = {capacity_bytes}
osd crush chooseleaf type = 0
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
rgw enable usage log = false
rgw run sync thread = false
rgw s3 auth use sts = {sts}
rgw sts key = {sts_key}
rgw frontends = beast endpoint=127.0.0.1:{rgw_port} tcp_nodelay=1
"""


class GatewayError(Exception):
    """The gateway did not start, with the tail of the log that says why."""


@dataclass(frozen=True)
class Keys:
    """The credentials of one S3 user."""

    access_key: str
    secret_key: str
    session_token: str = ""


def missing_programs() -> list[str]:
    """Which of the Ceph programs are not on the PATH; install them by ``HOW_TO_INSTALL``."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


class CephGateway:
    """One throw-away cluster.  ``endpoint`` and ``keys`` hold after ``start``.

    With ``outlive`` the daemons go on when this process ends, until ``stop`` of the same ``folder``.
    Otherwise the kernel ends them with this process, however it ends.  With ``sts`` it gives out temporary keys, and
    tells wrong keys in fewer words.
    """

    def __init__(
        self, folder: Path | None = None, outlive: bool = False, capacity_bytes: int = 2 << 30, sts: bool = False
    ) -> None:
        self.folder = folder or Path(tempfile.mkdtemp(prefix="hybrid-batch-ceph-"))
        self.endpoint = ""
        self.keys = Keys("", "")
        self._outlive = outlive
        self._capacity_bytes = capacity_bytes
        self._sts = sts
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the three daemons and make one user.  Raises GatewayError."""
        if missing := missing_programs():
            raise GatewayError(f"not installed: {', '.join(missing)}; {HOW_TO_INSTALL}")
        self.folder.mkdir(mode=0o700, exist_ok=True)
        try:
            rgw_port = self._write_config()
            self._start_monitor()
            self._start_osd()
            self._start_gateway(rgw_port)
            self.keys = self.create_user(_USER)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the daemons at once, for their data are thrown away, and remove the folder."""
        for daemon in self._daemons.values():
            daemon.kill()
        for daemon in self._daemons.values():
            daemon.wait()
        self._daemons.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    def environment(self) -> dict[str, str]:
        """The standard AWS settings by which any S3 client reaches this gateway."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.keys.access_key,
            "AWS_SECRET_ACCESS_KEY": self.keys.secret_key,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REQUEST_CHECKSUM_CALCULATION": "WHEN_REQUIRED",
            "AWS_RESPONSE_CHECKSUM_VALIDATION": "WHEN_REQUIRED",
        }

    def create_user(self, name: str) -> Keys:
        """A user of the gateway; the server invents the keys, so none is on a command line."""
        answer = self._run("radosgw-admin", "user", "create", f"--uid={name}", f"--display-name={name}")
        return self._keys(answer)[0]

    def replace_keys(self, name: str) -> Keys:
        """New keys for a user; the old ones are refused from now on."""
        old = self._keys(self._run("radosgw-admin", "user", "info", f"--uid={name}"))
        made = self.add_keys(name)
        for keys in old:
            self.remove_keys(keys)
        return made

    def add_keys(self, name: str) -> Keys:
        """Further keys for a user; the old ones go on."""
        old = self._keys(self._run("radosgw-admin", "user", "info", f"--uid={name}"))
        invent = ("--gen-access-key", "--gen-secret")
        made = self._run("radosgw-admin", "key", "create", f"--uid={name}", "--key-type=s3", *invent)
        return next(keys for keys in self._keys(made) if keys not in old)

    def remove_keys(self, keys: Keys) -> None:
        """Refuse ``keys`` from now on."""
        self._run("radosgw-admin", "key", "rm", "--key-type=s3", f"--access-key={keys.access_key}")

    def temporary_keys(self) -> Keys:
        """Keys of the first user with a session token, good for 15 minutes, as roles get them; needs ``sts``."""
        allowed = {"Effect": "Allow", "Action": ["sts:GetSessionToken", "s3:*"], "Resource": ["*"]}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
        self._run("radosgw-admin", "caps", "add", f"--uid={_USER}", "--caps=user-policy=*")
        self._client("iam").put_user_policy(UserName=_USER, PolicyName="temporary", PolicyDocument=policy)
        given = self._client("sts").get_session_token(DurationSeconds=900)["Credentials"]
        return Keys(given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"])

    def kill_front_end(self) -> None:
        """End the S3 server itself with SIGKILL; the data, which lie in the OSD, stay."""
        daemon = self._daemons.pop(_FRONT_END)
        daemon.kill()
        daemon.wait()

    def start_front_end(self) -> None:
        """Start the S3 server again, at the same endpoint."""
        self._start_gateway(int(self.endpoint.rpartition(":")[2]))

    def create_bucket(self, name: str, keys: Keys | None = None) -> str:
        """A bucket of the first user, or of the one that ``keys`` belong to; returns its URL."""
        self.client(keys).create_bucket(Bucket=name)
        return f"s3://{name}"

    def client(self, keys: Keys | None = None) -> Any:
        """A plain S3 client of the first user (or of ``keys``), apart from the one under test."""
        return self._client("s3", keys)

    def _client(self, service: str, keys: Keys | None = None) -> Any:
        import botocore.session

        keys = keys or self.keys
        return botocore.session.get_session().create_client(
            service,
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=keys.access_key,
            aws_secret_access_key=keys.secret_key,
        )

    def pids(self) -> dict[str, int]:
        """Process ids of the daemons by name."""
        return {name: daemon.pid for name, daemon in self._daemons.items()}

    def _keys(self, answer: str) -> list[Keys]:
        return [Keys(key["access_key"], key["secret_key"]) for key in json.loads(answer)["keys"]]

    def _write_config(self) -> int:
        mon_port, rgw_port = _free_ports(2)
        values = {
            "fsid": uuid.uuid4(),
            "folder": self.folder,
            "mon_port": mon_port,
            "rgw_port": rgw_port,
            "sts": str(self._sts).lower(),
            "sts_key": secrets.token_hex(8),
            "capacity_bytes": self._capacity_bytes,
        }
        (self.folder / "ceph.conf").write_text(_CONFIG.format(**values))
        caps = {"mon.": ["mon"], "client.admin": ["mon", "osd", "mgr"], "osd.0": ["mon", "osd"]}
        self._run("ceph-authtool", "--create-keyring", self.folder / "keyring")
        for entity, services in caps.items():
            allowed = [part for service in services for part in ("--cap", service, "allow *")]
            self._run("ceph-authtool", self.folder / "keyring", "--gen-key", "-n", entity, *allowed)
        monmap = ("--create", "--fsid", values["fsid"], "--addv", "a", f"[v2:127.0.0.1:{mon_port}/0]")
        self._run("monmaptool", *monmap, self.folder / "monmap")
        return rgw_port

    def _start_monitor(self) -> None:
        (self.folder / "mon").mkdir()
        mkfs = ("--mkfs", "-i", "a", "--monmap", self.folder / "monmap", "--keyring", self.folder / "keyring")
        self._run("ceph-mon", *mkfs)
        self._spawn("mon.a", "ceph-mon", "-f", "-i", "a")
        self._run("ceph", "--connect-timeout", "30", "auth", "import", "-i", self.folder / "keyring")

    def _start_osd(self) -> None:
        (self.folder / "osd").mkdir()
        identity = str(uuid.uuid4())
        self._run("ceph", "osd", "new", identity, "0")
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", identity)
        self._spawn("osd.0", "ceph-osd", "-f", "-i", "0")

    def _start_gateway(self, port: int) -> None:
        self._spawn(_FRONT_END, "radosgw", "-f", "-n", _FRONT_END)
        self.endpoint = f"http://127.0.0.1:{port}"
        self._wait_for("the gateway to answer", lambda: _answers(self.endpoint))

    def _run(self, program: str, *arguments: object) -> str:
        command = [program, *map(str, arguments), *self._conf_option(program)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_START_SECONDS, check=False)
        if done.returncode:
            raise GatewayError(
                f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}\n{self._logs()}"
            )
        return done.stdout

    def _spawn(self, name: str, program: str, *arguments: str) -> None:
        with (self.folder / f"{name}.out").open("wb") as output:
            self._daemons[name] = subprocess.Popen(
                [program, *arguments, *self._conf_option(program)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=None if self._outlive else _end_with_parent,
            )

    def _conf_option(self, program: str) -> tuple[str, ...]:
        return () if program in ("monmaptool", "ceph-authtool") else ("-c", str(self.folder / "ceph.conf"))

    def _wait_for(self, what: str, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not ready():
            dead = [name for name, daemon in self._daemons.items() if daemon.poll() is not None]
            if dead or time.monotonic() > deadline:
                reason = f"{', '.join(dead)} ended" if dead else f"no success in {_START_SECONDS:.0f} s"
                raise GatewayError(f"waiting for {what}: {reason}\n{self._logs()}")
            time.sleep(0.1)

    def _logs(self) -> str:
        texts = [*self.folder.glob("*.out"), *self.folder.glob("*.log")]
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')[-1500:]}" for path in texts)


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _answers(endpoint: str) -> bool:
    try:
        with urllib.request.urlopen(endpoint, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _default_folder() -> Path:
    return Path(tempfile.gettempdir()) / f"hybrid-batch-ceph-of-{os.getuid()}"


def _start(folder: Path, bucket: str | None, env_file: Path | None) -> int:
    if folder.exists():
        print(f"{folder} exists: a gateway runs already, or stop it first: {sys.argv[0]} stop", file=sys.stderr)
        return 1
    gateway = CephGateway(folder, outlive=True)
    gateway.start()
    (folder / "pids.json").write_text(json.dumps(gateway.pids()))
    settings = gateway.environment()
    if bucket:
        settings["HYBRID_BATCH_S3_URL"] = gateway.create_bucket(bucket)
    lines = "".join(f"export {name}={value}\n" for name, value in settings.items())
    if env_file:
        env_file.touch(mode=0o600)
        env_file.write_text(lines)
    print(lines, end="")
    return 0


def _stop(folder: Path) -> int:
    record = folder / "pids.json"
    pids = json.loads(record.read_text()) if record.exists() else {}
    ours = [pid for pid in pids.values() if _is_ours(pid, folder)]
    for pid in ours:
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + _STOP_SECONDS
    while any(_is_ours(pid, folder) for pid in ours) and time.monotonic() < deadline:
        time.sleep(0.05)
    shutil.rmtree(folder, ignore_errors=True)
    return 0


def _is_ours(pid: int, folder: Path) -> bool:
    """A process id may have been given to somebody else since it was written down."""
    try:
        return str(folder / "ceph.conf").encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def main() -> int:
    """Entry point of the script."""
    parser = argparse.ArgumentParser(description="a throw-away S3 server (Ceph) on loopback")
    parser.add_argument("action", choices=["start", "stop"])
    parser.add_argument("--folder", type=Path, default=_default_folder(), help="where its data lie meanwhile")
    parser.add_argument("--bucket", help="create this bucket (needs boto3)")
    parser.add_argument("--env-file", type=Path, help="write the export lines there as well")
    options = parser.parse_args()
    try:
        if options.action == "stop":
            return _stop(options.folder)
        return _start(options.folder, options.bucket, options.env_file)
    except GatewayError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
