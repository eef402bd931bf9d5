"""What an operator sees when something is wrong with the bucket, and what `orlop check` leaves alone."""

import contextlib
import os

import orlop
import pytest

START_ROUNDS, START_NODES = 5, 6


def serve(*args, env=None):
    """A server that must not start; what it says."""
    network = ("--listen", "127.0.0.1:0", "--admin-listen", "")
    result = orlop.run_cli("serve", *network, *args, env=env)
    assert result.returncode == 1, result
    return result.stderr


@pytest.mark.parametrize(
    ("args", "env", "message"),
    [
        (("--store", "s3://no-such-bucket/p"), {}, "The bucket of this server does not exist: look at bucket 'no-such-b"),
        ((), {"AWS_ACCESS_KEY_ID": "nobody"}, "does not accept this server's access keys: look at bucket"),
        ((), {"AWS_SECRET_ACCESS_KEY": "not-this"}, "does not accept this server's access keys: look at bucket"),
        (("--s3-endpoint", "http://127.0.0.1:9"), {}, "endpoint http://127.0.0.1:9,"),
    ],
    ids=["no bucket", "unknown key", "wrong secret", "unreachable"],
)
def test_messages_name_what_to_look_at(store, args, env, message):
    said = serve(*(() if "--store" in args else ("--store", store)), *args, env=env)
    assert message in said, said
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in said and "not-this" not in said


def test_many_nodes_start_at_once_in_an_empty_place(gateway):
    """Whichever makes the marker, all read it; none takes what the first has written for somebody else's."""
    for _ in range(START_ROUNDS):
        store = orlop.new_s3_store()
        with contextlib.ExitStack() as stack:
            servers = [orlop.Server(store=store, program=orlop.release_binary()) for _ in range(START_NODES)]
            for server in servers:
                stack.callback(server.discard)
                server.launch()
            for server in servers:
                server.wait_ready()
            for server in servers:
                server.stop()


def test_check_writes_nothing(gateway, new_proxy, store):
    """Not even to a prefix that holds no store, which a typing error may have named."""
    with new_proxy() as proxy:
        env = {"AWS_ENDPOINT_URL": proxy.url}
        result = orlop.run_cli("check", "--store", store, env=env)
        assert (result.returncode, result.stderr) == (1, f"orlop: {store} holds no store\n")
        with orlop.Server(store=store) as server, server.client() as client:
            client.push_image("a/b", "v1")
            assert orlop.run_cli("check", "--store", store, env=env).returncode == 0
        operations = {request.operation for request in proxy.requests}
    assert operations <= {"GetObject", "HeadObject", "ListObjects", "ListMultipartUploads", "ListParts"}, operations
