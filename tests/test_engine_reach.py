"""How an engine is reached other than by its socket: TLS by environment or context, and SSH; and what is said where it is not."""

from __future__ import annotations

import datetime
import hashlib
import importlib.util
import ipaddress
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lab import engine as engines
from occorr.errors import EXIT_NOTHING, EXIT_OK

pytest.importorskip("cryptography", reason="certificates are made here: pip install cryptography")
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

pytestmark = pytest.mark.engine
PORT = 2376
OCCORR = [sys.executable, "-c", "from occorr.cli import main; main()"]


class Authority:
    """A certificate authority of the test's own."""

    def __init__(self, name: str) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self._sign(self.name, self.key, x509.BasicConstraints(ca=True, path_length=None))

    def _sign(self, subject, key, *extensions):
        now = datetime.datetime.now(datetime.UTC)
        built = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=6))
        )
        for extension in extensions:
            built = built.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return built.sign(self.key, hashes.SHA256())

    def folder(self, path: Path, host: str | None, trusted: Authority | None = None) -> Path:
        """ca.pem, cert.pem and key.pem as DOCKER_CERT_PATH has them: of a server at `host`, or of a client."""
        path.mkdir()
        key = ec.generate_private_key(ec.SECP256R1())
        use = ExtendedKeyUsageOID.SERVER_AUTH if host else ExtendedKeyUsageOID.CLIENT_AUTH
        names = [x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))])] if host else []
        made = self._sign(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host or "client")]),
            key,
            x509.ExtendedKeyUsage([use]),
            *names,
        )
        pem = serialization.Encoding.PEM
        (path / "ca.pem").write_bytes((trusted or self).certificate.public_bytes(pem))
        (path / "cert.pem").write_bytes(made.public_bytes(pem))
        (path / "key.pem").write_bytes(
            key.private_bytes(pem, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
        )
        return path


class Guarded:
    """An engine behind TLS, whose clients need a certificate."""

    def __init__(self, engine: engines.Engine, root: Path, ours: Authority, other: Authority) -> None:
        self.engine, self.root = engine, root
        self.host = f"tcp://127.0.0.1:{PORT}"
        self.client = ours.folder(root / "client", None)
        self.stranger = other.folder(root / "stranger", None, trusted=ours)  # its certificate is of another authority
        self.doubter = ours.folder(root / "doubter", None, trusted=other)  # it trusts another authority

    def occorr(self, *words: object, **environment: str) -> subprocess.CompletedProcess[str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("DOCKER_")}
        return self.engine.run(*OCCORR, *words, env={**kept, **environment})


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    if reason := engines.missing():
        pytest.skip(reason)
    root = tmp_path_factory.mktemp("tls")
    ours, other = Authority("ours"), Authority("another")
    server = ours.folder(root / "server", "127.0.0.1")
    flags = [
        f"--tls{name}={server / file}"
        for name, file in (("cacert", "ca.pem"), ("cert", "cert.pem"), ("key", "key.pem"))
    ]
    with engines.running(None, f"--host=tcp://127.0.0.1:{PORT}", "--tlsverify", *flags) as engine:
        engine.docker(
            "run", "--detach", "--name", "one", "--label", "com.docker.compose.project=demo", engines.IMAGE, "sh", "-c", "echo hello; sleep 1000"
        )  # fmt: skip
        yield Guarded(engine, root, ours, other)


def collects(done, bundle):
    assert (done.returncode, done.stdout.strip()) == (EXIT_OK, str(bundle)), done.stderr
    (log,) = (bundle / "logs").iterdir()
    assert log.read_text().endswith("Z hello\n")


@pytest.mark.long
def test_tls_by_the_environment(guarded, tmp_path):
    environment = {"DOCKER_HOST": guarded.host, "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(guarded.client)}
    collects(guarded.occorr("collect", "-p", "demo", "-o", tmp_path / "b", **environment), tmp_path / "b")
    manifest = json.loads((tmp_path / "b" / "manifest.json").read_text())
    told = {m["what"]: m["why"] for m in manifest["missing"]}
    assert "another machine" in told["kernel log"]  # an address does not say whose kernel it is
    done = guarded.occorr("watch", "-p", "demo", "--for", "2s", "--record", tmp_path / "r", **environment)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, rows[0]["engine"], rows[-1]["type"], rows[-1]["lines"]) == (0, guarded.host, "end", 1)


@pytest.mark.long
def test_tls_by_a_context(guarded, tmp_path):
    certificates = ",".join(
        f"{k}={guarded.client / f}" for k, f in (("ca", "ca.pem"), ("cert", "cert.pem"), ("key", "key.pem"))
    )
    client = {**os.environ, "DOCKER_CONFIG": str(tmp_path / "config")}
    docker = shutil.which("docker", path="/usr/bin")
    for words in (["create", "far", "--docker", f"host={guarded.host},{certificates}"], ["use", "far"]):
        subprocess.run([docker, "context", *words], env=client, check=True, capture_output=True)
    environment = {"DOCKER_CONFIG": str(tmp_path / "config")}
    collects(guarded.occorr("collect", "-p", "demo", "-o", tmp_path / "b", **environment), tmp_path / "b")
    collects(
        guarded.occorr("collect", "-p", "demo", "-o", tmp_path / "c", DOCKER_CONTEXT="far", **environment),
        tmp_path / "c",
    )


@pytest.mark.long
@pytest.mark.parametrize("command", ["collect", "watch"])
@pytest.mark.parametrize(
    ("folder", "verify", "says"),
    [
        ("stranger", "1", "certificate"),  # the engine does not know it
        ("doubter", "1", "certificate verify failed"),  # it does not know the engine
        ("nowhere", "1", "DOCKER_CERT_PATH"),
        ("", "", "speaks TLS"),  # spoken to without TLS
    ],
)
def test_no_trust_is_one_line(guarded, tmp_path, command, folder, verify, says):
    environment = {"DOCKER_HOST": guarded.host}
    if folder:
        environment |= {"DOCKER_TLS_VERIFY": verify, "DOCKER_CERT_PATH": str(guarded.root / folder)}
    out = {"collect": ["-o", tmp_path / "b"], "watch": ["--record", tmp_path / "r", "--for", "1s"]}[command]
    done = guarded.occorr(command, "-p", "demo", *out, **environment)
    assert done.returncode == EXIT_NOTHING, done.stderr
    assert done.stdout == "" and done.stderr.count("\n") == 1, done.stderr
    assert guarded.host in done.stderr and says in done.stderr, done.stderr
    assert "DOCKER_TLS_VERIFY" in done.stderr and not (tmp_path / "b").exists()


# ---------------------------------------------------------------- SSH
SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
PARAMIKO = importlib.util.find_spec("paramiko") is not None


class Distant:
    """An engine that is reached by SSH on loopback, as root with a key of the test's own."""

    def __init__(self, engine: engines.Engine, root: Path) -> None:
        self.engine, self.root, self.home = engine, root, root / "home"
        self.host, self.port = "ssh://127.0.0.1:2222", 2222
        (self.home / ".ssh").mkdir(parents=True, mode=0o700)
        for key in (root / "host", self.home / ".ssh" / "id_ed25519"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        self.known = f"[127.0.0.1]:{self.port} {(root / 'host.pub').read_text()}"

    def settings(self) -> str:
        keys = self.root / "authorized"
        keys.write_bytes((self.home / ".ssh" / "id_ed25519.pub").read_bytes())
        words = {
            "Port": self.port, "ListenAddress": "127.0.0.1", "HostKey": self.root / "host", "AuthorizedKeysFile": keys, "PasswordAuthentication": "no", "KbdInteractiveAuthentication": "no",
            "UsePAM": "no", "PermitRootLogin": "prohibit-password", "StrictModes": "no", "PidFile": "none", "MaxSessions": "100", "SetEnv": f"DOCKER_HOST={self.engine.host}",
        }  # fmt: skip
        (self.root / "sshd_config").write_text("".join(f"{k} {v}\n" for k, v in words.items()))
        return str(self.root / "sshd_config")

    def occorr(self, *words: object, known: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        (self.home / ".ssh" / "known_hosts").write_text(self.known if known else "")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("DOCKER_", "SSH_"))}
        user = self.host.replace("//", "//root@")
        return self.engine.run(
            *OCCORR, *words, env={**kept, "HOME": str(self.home), "DOCKER_HOST": user, **environment}
        )


@pytest.fixture(scope="module")
def distant(engine, tmp_path_factory):
    if SSHD is None or not PARAMIKO:
        pytest.skip("needs a server and a client of SSH: apt-get install openssh-server, pip install paramiko")
    made = Distant(engine, tmp_path_factory.mktemp("ssh"))
    labels = ("--label", "com.docker.compose.project=distant")
    ident = engine.docker("run", "--detach", *labels, engines.IMAGE, "sh", "-c", "echo hello; sleep 1000")
    Path("/run/sshd").mkdir(
        exist_ok=True
    )  # where it goes without rights, says sshd; a package that no service started has none
    server = subprocess.Popen(
        engine.inside(SSHD, "-D", "-e", "-f", made.settings()),
        stderr=subprocess.PIPE,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert "listening" in server.stderr.readline()
    try:
        yield made
    finally:
        server.terminate()
        server.communicate()
        engine.docker("rm", "--force", ident)


@pytest.mark.long
def test_ssh(distant, tmp_path):
    collects(distant.occorr("collect", "-p", "distant", "-o", tmp_path / "b"), tmp_path / "b")
    done = distant.occorr("watch", "-p", "distant", "--for", "2s", "--record", tmp_path / "r")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, done.stderr, rows[0]["engine"], rows[-1]["lines"]) == (0, "", distant.host, 1)


@pytest.mark.long
def test_ssh_that_does_not_get_in_is_one_line(distant, tmp_path):
    unknown = distant.occorr("collect", "-p", "distant", "-o", tmp_path / "b", known=False)
    assert unknown.returncode == EXIT_NOTHING and "connect once with ssh" in unknown.stderr
    key = distant.home / ".ssh" / "id_ed25519"
    key.rename(key.with_suffix(".away"))
    try:
        refused = distant.occorr("collect", "-p", "distant", "-o", tmp_path / "b")
    finally:
        key.with_suffix(".away").rename(key)
    assert refused.returncode == EXIT_NOTHING and "no key of yours" in refused.stderr
    nobody = distant.occorr("collect", "-p", "distant", "-o", tmp_path / "b", DOCKER_HOST="ssh://root@127.0.0.1:2223")
    assert nobody.returncode == EXIT_NOTHING and "ssh://127.0.0.1:2223" in nobody.stderr
    for done in (unknown, refused, nobody):
        assert done.stdout == "" and done.stderr.count("\n") == 1 and "root@" not in done.stderr


def test_ssh_without_paramiko_says_what_to_install(tmp_path):
    code = "import sys; sys.modules['paramiko'] = None; from occorr.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "collect", "-p", "x", "-o", tmp_path / "b"],
        env={**os.environ, "DOCKER_HOST": "ssh://nobody@127.0.0.1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == EXIT_NOTHING and done.stderr.count("\n") == 1
    assert "pip install 'occorr[ssh]'" in done.stderr


@pytest.mark.long
@pytest.mark.parametrize(
    ("meta", "says"),
    [
        (None, "no such context"),
        ("{", "cannot be read"),
        ('{"Name": "far", "Metadata": {}, "Endpoints": {"docker": 1}}', "cannot be read"),
    ],
)
def test_a_context_that_is_not_there_or_broken_is_one_line(tmp_path, meta, says):
    (tmp_path / "config.json").write_text('{"currentContext": "far"}')
    if meta is not None:
        folder = tmp_path / "contexts" / "meta" / hashlib.sha256(b"far").hexdigest()
        folder.mkdir(parents=True)
        (folder / "meta.json").write_text(meta)
    kept = {k: v for k, v in os.environ.items() if not k.startswith("DOCKER_")}
    for environment in ({}, {"DOCKER_CONTEXT": "far"}):
        done = subprocess.run(
            [*OCCORR, "collect", "-p", "x", "-o", tmp_path / "b"],
            env={**kept, "DOCKER_CONFIG": str(tmp_path), **environment},
            capture_output=True,
            text=True,
        )
        assert done.returncode == EXIT_NOTHING and done.stderr.count("\n") == 1, done.stderr
        assert says in done.stderr and "docker context ls" in done.stderr
