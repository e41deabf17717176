"""A gRPC server as its users start one, in a process of its own: what it answered is in the store."""

from __future__ import annotations

import json

from programs import Programs, assert_conserved

SERVER = """
from concurrent.futures import ThreadPoolExecutor
import grpc
import looptap

def double(data):
    return data * 2

model = looptap.watch(double, version="7")

def predict(asked, context):
    if asked == b"bad":
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "bad")
    return model(asked)

server = grpc.server(ThreadPoolExecutor(2))
handlers = {"Predict": grpc.unary_unary_rpc_method_handler(predict)}
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Models", handlers),))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
    ask = channel.unary_unary("/test.Models/Predict")
    print(*[ask(b"x", timeout=20).decode() for _ in range(20)])
    try:
        ask(b"bad", timeout=20)
    except grpc.RpcError as error:
        print(error.code().name)
server.stop(5).wait()
"""


def test_looptap_run_serving(programs: Programs) -> None:
    """Every call is counted, with its method and its status."""
    programs.script(SERVER, "serve.py")
    done = programs.looptap("run", "--serving", "serve.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["xx"] * 20 + ["INVALID_ARGUMENT"]
    (run,) = programs.runs()
    assert (run["kind"], run["status"]) == ("serving", "finished")
    assert_conserved(programs.record(run["id"]))
    (version,) = json.loads(programs.looptap("serving", "double", "--json").stdout)["versions"]
    assert (version["version"], version["requests"]) == ("7", 20)
    asked = programs.looptap("serving", "", "--json").stdout
    assert json.loads(asked)["versions"][0]["errors"] == {"INVALID_ARGUMENT": 1}
    assert "/test.Models/Predict" in asked
