"""The throw-away engine itself: several at once, each with its own network, and nothing left behind."""

import socket

import docker
import pytest

from lab import engine as engines

pytestmark = pytest.mark.engine


def test_container_port_is_reached_in_the_engines_network(engine):
    name = engine.docker(
        "run",
        "--detach",
        "--publish",
        "127.0.0.1:8123:80",
        engines.IMAGE,
        "sh",
        "-c",
        "echo from the container >/var/www/index.html; exec httpd -f -h /var/www",
    )
    try:
        reply = engine.run("busybox", "wget", "-qO-", "http://127.0.0.1:8123/")
        assert reply.stdout == "from the container\n", reply.stderr
        with engine.network(), socket.create_connection(("127.0.0.1", 8123), timeout=5) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert connection.recv(64).split()[1] == b"200"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", 8123), timeout=5)
        client = docker.DockerClient(engine.host)
        assert [c.id for c in client.containers.list()] == [name]
        client.close()
    finally:
        engine.docker("rm", "--force", name)


@pytest.mark.long
def test_a_second_engine_knows_nothing_of_the_first_and_leaves_nothing(engine):
    with engines.running() as other:
        other.docker("run", "--detach", "--name", "alone", engines.IMAGE, "sleep", "1000")
        assert other.docker("ps", "--format", "{{.Names}}") == "alone"
        assert "alone" not in engine.docker("ps", "--all", "--format", "{{.Names}}")
    assert not engines.processes(other.root)
    assert not engines.groups(other.root)
    assert not other.root.exists()
