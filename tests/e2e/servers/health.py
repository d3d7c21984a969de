#!/usr/bin/python3
"""health.py PORT SERVICE=STATUS...   The standard health service (grpc.health.v1.Health), by gRPC's own library.

What it says of a service is what the file /tmp/health-SERVICE holds, at first the STATUS given here; it knows no others. The
server as a whole is the service without a name.
"""
import sys
from concurrent import futures

import grpc

STATUS = {"UNKNOWN": 0, "SERVING": 1, "NOT_SERVING": 2}


def path(service):
    return "/tmp/health-" + service


def check(request, context):
    # HealthCheckRequest has one field, the name: a tag, a length of one byte, and the text; without a name, nothing.
    service = request[2:].decode()
    try:
        with open(path(service)) as file:
            status = STATUS[file.read().strip()]
    except FileNotFoundError:
        context.abort(grpc.StatusCode.NOT_FOUND, f"unknown service {service}")
    return bytes([8, status])


class Health(grpc.GenericRpcHandler):
    def service(self, details):
        if details.method == "/grpc.health.v1.Health/Check":
            return grpc.unary_unary_rpc_method_handler(check)
        return None


for pair in sys.argv[2:]:
    name, said = pair.split("=")
    with open(path(name), "w") as file:
        file.write(said)
server = grpc.server(futures.ThreadPoolExecutor(4))
server.add_generic_rpc_handlers((Health(),))
server.add_insecure_port(f"0.0.0.0:{sys.argv[1]}")
server.start()
print("serving", flush=True)
server.wait_for_termination()
